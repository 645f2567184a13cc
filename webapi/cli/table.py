"""Prints the tables of the command line."""

from collections.abc import Iterable, Sequence

import click

__all__ = ["print_table"]


def print_table(title: str, rows: Iterable[Sequence[object]]) -> None:
    """Print the rows in columns. The words of `title` are the heads of the columns."""
    table = [title.split(), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
