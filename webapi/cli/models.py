"""`stoker models show`: the options of a frame model."""

import json
from collections.abc import Sequence

import click

from webapi.cli.api import URL, client_of
from webapi.cli.table import print_table
from worker.jobs.options import Option, options_of

__all__ = ["show_model"]


@click.command("show")
@URL
@click.argument("name")
def show_model(url: str | None, name: str) -> None:
    """Show the options that video jobs may set if they run the model NAME."""
    options = options_of(client_of(url).model(name)["parameters"] or {})
    if not options:
        click.echo(f"{name} has no options of its own")
        return
    print_table("OPTION VALUE DEFAULT DESCRIPTION", map(_row, options.values()))


def _row(option: Option) -> Sequence[object]:
    default = option.schema.get("default")
    shown = default if isinstance(default, str) else json.dumps(default)
    about = " ".join(option.schema.get("description", "").split())
    return [option.name, option.values, "required" if option.required else shown, about]
