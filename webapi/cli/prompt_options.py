"""The command-line options of a chat's prompt."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from worker.jobs.chat.prompt_options import PromptOptions

__all__ = ["prompt_options"]

Command = TypeVar("Command", bound=Callable[..., None])


def _variables(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Return the value of a JSON text."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        raise click.BadParameter('must be a JSON object, such as {"enable_thinking": false}') from None


_SETTINGS: dict[str, dict[str, Any]] = {
    "chat_template_kwargs": {"metavar": "JSON", "callback": _variables},
    "reasoning_effort": {},
    "truncate_prompt_tokens": {"type": int},
}


def prompt_options(command: Command) -> Command:
    """Add the options that are useful for one question. The value None means that it is not given."""
    for name, settings in reversed(_SETTINGS.items()):
        text = str(PromptOptions.model_fields[name].description).replace("`", "")
        command = click.option(f"--{name.replace('_', '-')}", help=text, **settings)(command)
    return command
