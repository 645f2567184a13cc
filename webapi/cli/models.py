"""`stoker models show`: the options of a frame model."""

import click

from webapi.cli.api import URL, client_of
from webapi.cli.json_option import JSON, print_json
from worker.jobs.options import COLUMNS, options_of
from worker.jobs.terminal import print_table

__all__ = ["show_model"]


@click.command("show")
@URL
@JSON
@click.argument("name")
def show_model(url: str | None, as_json: bool, name: str) -> None:
    """Show the options that video jobs may set if they run the model NAME.

    --json prints their JSON schema.
    """
    schema = client_of(url).model(name)["parameters"] or {}
    if as_json:
        print_json(schema)
        return
    options = options_of(schema)
    if not options:
        click.echo(f"{name} has no options of its own")
        return
    print_table(COLUMNS, (option.row for option in options.values()))
