"""A job whose events a command shows while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from webapi.client import Client
from webapi.client.errors import ApiUnavailable, Json

__all__ = ["shown"]


@contextmanager
def shown(client: Client, job: Json) -> Iterator[None]:
    """Print the job's id. Cancel the job if the user presses Ctrl-C or closes the output."""
    job_id = job["id"]
    click.secho(f"job {job_id}", err=True, dim=True)
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        click.echo(f"\ncanceling job {job_id}; Ctrl-C again leaves it running", err=True)
        client.cancel(job_id)
        raise
    except ApiUnavailable as error:
        way_out = f"job {job_id} may go on: `stoker status` shows it, `stoker cancel {job_id}` ends it"
        raise ApiUnavailable(f"{error}; {way_out}") from error
