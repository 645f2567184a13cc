"""`stoker doctor`: checks this machine and Redis."""

from dataclasses import asdict
from itertools import chain

import click

from webapi.cli.json_option import JSON, print_json
from webapi.local import state_file
from webapi.local.checks.machine import machine_checks
from webapi.local.checks.redis import redis_checks
from worker.jobs.settings import Settings

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Check this machine and Redis, and say what to do. The exit status is 1 if there is a fault."""
    settings = state_file.follow(Settings.from_env())
    found = []
    for check in chain(machine_checks(settings), redis_checks(settings)):
        found.append(check)
        if not as_json:
            state = click.style(f"{check.state:<7}", _COLOURS[check.state])
            advice = f": {check.advice}" if check.advice else ""
            click.echo(f"{state}  {check.name:<17}  {check.found}{advice}")
    if as_json:
        print_json([asdict(check) for check in found])
    if any(check.state == "fault" for check in found):
        raise SystemExit(1)
