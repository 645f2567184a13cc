"""The API of which commands are clients."""

import click

from webapi.client import Client
from webapi.local import state_file
from worker.jobs.settings import Settings

__all__ = ["URL", "client_of"]

URL = click.option("--url", help="URL of the API. Default: STOKER_URL, or else the running `stoker up`.")


def client_of(url: str | None) -> Client:
    """Return a client of the API at `url`, or by default of that of the settings, until the command ends."""
    settings = state_file.follow(Settings.from_env())
    return click.get_current_context().with_resource(Client(url or settings.url, settings.api_key))
