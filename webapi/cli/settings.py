"""The command `stoker settings`."""

import re
from dataclasses import asdict, replace
from itertools import groupby

import click

from webapi.cli.json_option import JSON, print_json
from webapi.local import state_file
from worker.jobs.settings import Setting, Settings

__all__ = ["show_settings"]


@click.command("settings")
@JSON
def show_settings(as_json: bool) -> None:
    """Print every setting: its value, where the value comes from, its default, and its meaning.

    The values are those that a command started here would use. Some come from the running `stoker up`, if
    there is one. Secrets are not shown.
    """
    described = _described()
    if as_json:
        print_json([asdict(setting) for setting in described])
        return
    for area, members in groupby(described, lambda setting: setting.area):
        click.secho(f"{area}\n", bold=True)
        for setting in members:
            click.echo(f"{_value(setting)}\n{_meaning(setting)}\n")


def _described() -> list[Setting]:
    """Return the descriptions of all settings, also of those that come from the running stack."""
    given = Settings.from_env()
    pairs = zip(given.describe(), state_file.follow(given).describe(), strict=True)
    return [used if used.source == own.source else replace(used, source="stack") for own, used in pairs]


def _value(setting: Setting) -> str:
    default = "" if setting.source == "default" else f", default {setting.default or 'unset'}"
    return f"{setting.variable}: {setting.value or 'unset'} ({setting.source}{default})"


def _meaning(setting: Setting) -> str:
    """Return the description without the links of its Markdown."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", setting.description)
    return click.wrap_text(text, initial_indent="    ", subsequent_indent="    ")
