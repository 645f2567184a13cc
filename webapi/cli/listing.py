"""Listings: as tables, as JSON, or as tables that refresh in place."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from webapi.cli.json_option import print_json
from webapi.client.errors import ApiUnavailable
from worker.jobs.terminal import print_table

__all__ = ["WATCH", "Tables", "show_listing", "watch"]

Document = TypeVar("Document")

#: Tables, each with its heads as the words of one text, and its rows.
Tables = Iterable[tuple[str, Iterable[Sequence[object]]]]

WATCH = click.option("--watch", "watching", is_flag=True, help="Refresh the listing in place, until Ctrl-C.")
#: Seconds between two looks.
EVERY_S = 2.0
#: The colours of the cells with these texts.
_COLOURS = {
    "queued": "yellow",
    "paused": "yellow",
    "warming": "yellow",
    "draining": "yellow",
    "running": "green",
    "ready": "green",
    "failed": "red",
}


def show_listing(
    read: Callable[[], Document], tables: Callable[[Document], Tables], *, as_json: bool, watching: bool
) -> None:
    """Print the document that `read` returns, as JSON or as its tables, once or again and again."""
    if as_json and watching:
        raise click.UsageError("--json and --watch exclude each other: choose one")
    if watching:
        watch(lambda: tables(read()))
    elif as_json:
        print_json(read())
    else:
        for number, (title, rows) in enumerate(tables(read())):
            if number:
                click.echo()
            print_table(title, rows)


def watch(
    read: Callable[[], Tables],
    console: Console | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Show the tables that `read` returns, again and again in the same place, until Ctrl-C.

    While the API is away, show why, and go on. Raises `click.UsageError` if the output is no terminal.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        raise click.UsageError("--watch needs a terminal: leave it out to print the listing once")
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_screen(read), refresh=True)
                wait(EVERY_S)
        except KeyboardInterrupt:
            return


def _screen(read: Callable[[], Tables]) -> RenderableType:
    try:
        return Group(*(_table(title, rows) for title, rows in read()))
    except ApiUnavailable as error:
        return Text(f"{error}; the next look is in {EVERY_S:.0f} s", "red")


def _table(title: str, rows: Iterable[Sequence[object]]) -> Table:
    cells = [[str(cell) for cell in row] for row in rows]
    table = Table(*title.split(), box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    # A narrow terminal must not cut names and ids, because other commands take them.
    table.columns[0].min_width = max((len(row[0]) for row in cells), default=0)
    for row in cells:
        table.add_row(*(Text(cell, _COLOURS.get(cell, ""), no_wrap=True) for cell in row))
    table.add_row()
    return table
