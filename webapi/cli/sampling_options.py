"""The command-line options of the sampling parameters, made from their definition."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from worker.jobs.chat.sampling import SamplingParams

__all__ = ["sampling_options"]

Command = TypeVar("Command", bound=Callable[..., None])


def _biases(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> dict[str, float]:
    """Return the numbers of texts `TOKEN=NUMBER` by token."""
    try:
        return {token: float(number) for token, _, number in (text.partition("=") for text in texts)}
    except ValueError:
        raise click.BadParameter("must be TOKEN=NUMBER, such as 50256=-100") from None


def _json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Return the value that a JSON text stands for."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is not valid JSON: {error}") from None


#: Parameters without an option: a terminal shows the text of one answer.
_WITHOUT_OPTION = {"n", "return_token_ids"}
#: The settings of an option by the JSON type of its parameter: "model" is an object with fields of its own.
#: Parameters of other types get no option.
_SETTINGS: dict[str, dict[str, Any]] = {
    "integer": {"type": int},
    "number": {"type": float},
    "boolean": {"is_flag": True, "default": None},
    "array": {"multiple": True},
    "object": {"multiple": True, "metavar": "TOKEN=NUMBER", "callback": _biases},
    "model": {"metavar": "JSON", "callback": _json},
}


def sampling_options(command: Command) -> Command:
    """Add an option for each sampling parameter to the command. The value None means that it is not given.

    A parameter that is a list has an option that may be repeated. Its value is a tuple. A parameter with a
    number for each token has an option that may be repeated. Its value is a dictionary.
    """
    for name, schema in reversed(SamplingParams.model_json_schema()["properties"].items()):
        kinds = {each.get("type", "model"): each for each in schema["anyOf"]}
        kind = next((kind for kind in _SETTINGS if kind in kinds), None)
        if kind and name not in _WITHOUT_OPTION:
            settings = _SETTINGS[kind]
            if kinds[kind].get("items", {}).get("type") == "integer":
                settings = settings | {"type": int}
            text = schema["description"].replace("`", "") + " May be repeated." * ("multiple" in settings)
            command = click.option(f"--{name.replace('_', '-')}", help=text, **settings)(command)
    return command
