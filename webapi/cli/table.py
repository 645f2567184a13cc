"""A table, as the command line prints it."""

from collections.abc import Iterable, Sequence

import click

__all__ = ["show"]


def show(title: str, rows: Iterable[Sequence[object]]) -> None:
    """Print the rows under the words of the title, in columns."""
    table = [title.split(), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
