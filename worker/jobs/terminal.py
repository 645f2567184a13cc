"""The terminal of a command: its tables, and the characters that it may lack."""

import io
import sys
from collections.abc import Iterable, Sequence

import click

__all__ = ["print_table", "show_any_text"]


def show_any_text() -> None:
    """Print a question mark for each character that the terminal's encoding lacks, instead of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def print_table(title: str, rows: Iterable[Sequence[object]]) -> None:
    """Print the rows in columns. The words of `title` are the heads of the columns."""
    table = [title.split(), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
