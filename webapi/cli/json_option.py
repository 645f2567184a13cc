"""The option `--json` of the commands that list something."""

import json

import click

__all__ = ["JSON", "print_json"]

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(document: object) -> None:
    """Print a document of dictionaries, lists and plain values."""
    click.echo(json.dumps(document, indent=2))
