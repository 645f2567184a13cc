"""The command-line options of the sampling parameters, made from their definition."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from worker.jobs.sampling import SamplingParams

__all__ = ["sampling_options"]

Command = TypeVar("Command", bound=Callable[..., None])

#: The settings of an option by the JSON type of its parameter. Parameters of other types get no option.
_SETTINGS: dict[str, dict[str, Any]] = {
    "integer": {"type": int},
    "number": {"type": float},
    "boolean": {"is_flag": True, "default": None},
    "array": {"multiple": True},
}


def sampling_options(command: Command) -> Command:
    """Add an option for each sampling parameter to the command. The value None means that it is not given.

    A parameter that is a list of texts has an option that may be repeated. Its value is a tuple.
    """
    for name, schema in reversed(SamplingParams.model_json_schema()["properties"].items()):
        types = [each.get("type") for each in schema.get("anyOf", [schema])]
        kind = next((kind for kind in _SETTINGS if kind in types), None)
        if kind:
            text = schema["description"].replace("`", "") + " May be repeated." * (kind == "array")
            command = click.option(f"--{name.replace('_', '-')}", help=text, **_SETTINGS[kind])(command)
    return command
