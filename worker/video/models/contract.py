"""Checks whether a class has the form of a frame model, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static
from typing import Any

from jsonschema import Draft202012Validator

from worker.jobs.errors import ConfigurationError
from worker.jobs.media.files import OPTION
from worker.jobs.specs import VideoJob
from worker.video.model import FrameModel, Options

__all__ = ["check_class"]

METHODS = ("load", "output", "start")
#: Form fields that are not options, because each video job has them.
RESERVED = {*VideoJob.model_fields, "file", "input_reference"}
#: The types of options in a JSON schema. A form has no other values.
SCALARS = {"boolean", "integer", "number", "string", "null"}


def check_class(model: Any, spec: str) -> None:
    """Raise `ConfigurationError` if the class is no `FrameModel`. The message says what is wrong."""
    if fault := _fault(model):
        raise ConfigurationError(f"{spec} is not a frame model: {fault}")


def _fault(model: Any) -> str | None:
    for method in METHODS:
        inherited = getattr_static(FrameModel, method)  # its methods do nothing
        if not callable(getattr(model, method, None)) or getattr_static(model, method) is inherited:
            return f"it has no method {method}"
    options = getattr(model, "Options", None)
    if not isinstance(options, type) or not issubclass(options, Options):
        return "its class Options must be a subclass of worker.video.model.Options"
    for name in ("before", "after"):
        frames = getattr(model, name, 0)
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            return f"{name} must be a number of frames"
    return _options_fault(options)


def _options_fault(options: type[Options]) -> str | None:
    try:
        schema = options.model_json_schema()
        Draft202012Validator.check_schema(schema)
    except Exception as error:
        return f"its Options have no JSON schema ({str(error).partition(chr(10))[0]})"
    for name, option in schema.get("properties", {}).items():
        if name in RESERVED:
            return f"its option {name} has the name of a field that each video job has"
        if not OPTION.fullmatch(name):
            return f"its option {name} must have a name of at most 64 letters, digits and underscores"
        if not all(_is_scalar(part) for part in option.get("anyOf", [option])):
            return f"its option {name} must be a single value, because it is a field of a form"
    return None


def _is_scalar(option: Mapping[str, Any]) -> bool:
    if option.get("type") in SCALARS:
        return True
    values = option.get("enum", [])
    return bool(values) and not any(isinstance(value, list | dict) for value in values)
