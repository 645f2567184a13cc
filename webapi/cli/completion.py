"""`stoker completion`: prints the script that completes commands and options in a shell."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

__all__ = ["completion"]


_SHELLS = {each.name: each for each in (BashComplete, ZshComplete, FishComplete)}


@click.command()
@click.argument("shell", type=click.Choice([*_SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes the commands and options of `stoker` in SHELL."""
    click.echo(_SHELLS[shell](context.find_root().command, {}, "stoker", "_STOKER_COMPLETE").source())
