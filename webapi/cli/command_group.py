"""The common part of all commands: errors of one sentence, and no colours if the user wants none."""

from typing import Any

import click

from worker.jobs.start_errors import EXPECTED, sentence
from worker.jobs.terminal import show_any_text

__all__ = ["NO_COLOR", "CommandGroup"]


def _without_colours(context: click.Context, _: click.Parameter, given: str | None) -> None:
    """Let this command and those below it print no colours if `NO_COLOR` has a value (no-color.org)."""
    if given:
        context.color = False


NO_COLOR = click.option(
    "--no-color", envvar="NO_COLOR", hidden=True, expose_value=False, callback=_without_colours, is_eager=True
)


class CommandGroup(click.Group):
    """A group of commands that reports expected errors as one sentence, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn an expected error into one that click prints."""
        show_any_text()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of the output closed it; click exits without a message
            raise
        except UnicodeEncodeError as error:
            raise click.ClickException("an argument has bytes that are not text in this locale") from error
        except (*EXPECTED, ValueError) as error:
            raise click.ClickException(sentence(error)) from error
