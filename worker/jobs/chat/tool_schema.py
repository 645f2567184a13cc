"""The JSON schema of an answer that has to call tools. The whole answer is JSON of this schema."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.chat.tools import NamedToolChoice, Tool, ToolOptions
from worker.jobs.errors import InvalidInput

__all__ = ["forced_calls", "forces_calls"]

#: Keywords by which a schema may name properties elsewhere.
_COMBINED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "unevaluatedProperties"})


def forces_calls(options: ToolOptions) -> bool:
    """Return whether the answer of a chat has to be a call of a tool."""
    return options.tool_choice not in ("none", "auto")


def forced_calls(options: ToolOptions) -> StructuredOutputs | None:
    """Return the form of the answer of a chat that has to call tools; None if it does not have to.

    It is an object with the members `name` and `arguments`, in this order. If several calls are allowed, it
    is an array of them. Raises `InvalidInput` if the schemas of the tools are too large
    together, or nested too deeply.
    """
    choice, tools = options.tool_choice, options.tools
    if isinstance(choice, NamedToolChoice):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
    elif choice != "required":
        return None
    several = choice == "required" and options.parallel_tool_calls
    strict = any(tool.function.strict for tool in tools)
    try:
        return StructuredOutputs(json=_calls(tools, several), strict=strict)
    except ValidationError as error:
        raise InvalidInput("tools", error.errors()[0]["msg"]) from None
    except RecursionError:
        raise InvalidInput("tools", "a schema is nested too deeply") from None


def _calls(tools: Sequence[Tool], several: bool) -> dict[str, Any]:
    kinds = [_call(tool, f"#/$defs/{number}") for number, tool in enumerate(tools)]
    call = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    schema = {"type": "array", "items": call, "minItems": 1} if several else call
    return {**schema, "$defs": {str(number): _arguments(tool, number) for number, tool in enumerate(tools)}}


def _call(tool: Tool, arguments: str) -> Mapping[str, Any]:
    members = {"name": {"const": tool.function.name}, "arguments": {"$ref": arguments}}
    return {
        "type": "object",
        "properties": members,
        "required": [*members],
        "additionalProperties": False,
    }


def _arguments(tool: Tool, number: int) -> Any:
    """Return the schema of the tool's arguments. References in it lead to its new place.

    Arguments that the schema does not name are allowed only if it says so, as in vLLM. A function would fail
    with them, and small models invent some.
    """
    schema = tool.function.parameters or {"properties": {}}
    closed = "properties" in schema and not schema.keys() & _COMBINED
    extra = {"additionalProperties": False} if closed else {}
    return _moved({"type": "object", **extra, **schema}, f"#/$defs/{number}")


def _moved(schema: Any, root: str) -> Any:
    """Return the schema with its references moved, apart from those to anchors and those below an `$id`."""
    if isinstance(schema, list):
        return [_moved(each, root) for each in schema]
    if not isinstance(schema, dict) or isinstance(schema.get("$id"), str):
        return schema
    moved = {name: _moved(value, root) for name, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = root + reference[1:]
    return moved
