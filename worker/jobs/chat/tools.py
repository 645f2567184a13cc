"""The tools of a chat: functions that the client can run and the model may call."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    FailFast,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError, from_json

from worker.jobs.chat.bounded_json import bounded
from worker.jobs.chat.nullable import Nullable

__all__ = [
    "FunctionCall",
    "FunctionDefinition",
    "NamedFunction",
    "NamedToolChoice",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolOptions",
    "check_choice",
]

#: Most characters of the JSON of one tool's parameters, and most tools of a chat. The tools are a part of the
#: prompt, and a template may write them several times.
MAX_PARAMETERS = 2**16
MAX_TOOLS = 128

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
#: With a constraint, pydantic refuses lone surrogates. JSON allows them, but no tokenizer takes them.
Text = Annotated[str, StringConstraints(min_length=0)]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class FunctionDefinition(Nullable):
    """A function: its name, what it does, and the JSON schema of its parameters."""

    name: FunctionName
    description: Annotated[str, StringConstraints(max_length=2**16)] | None = None
    """What the function does, and when the model should call it."""
    parameters: Annotated[dict[str, JsonValue], bounded(MAX_PARAMETERS)] | None = None
    """A JSON schema of type `object`. Null means no parameters."""
    strict: bool = False
    """With true, the arguments of a call always match `parameters`."""

    @field_validator("parameters")
    @classmethod
    def _of_an_object(cls, parameters: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if parameters and parameters.get("type", "object") != "object":
            raise PydanticCustomError("parameters", "the type of this schema must be object")
        return parameters


class Tool(Nullable):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition

    def for_template(self) -> dict[str, Any]:
        """Return the tool as chat templates read it. `strict` says nothing to the model."""
        given = self.function
        described = {} if given.description is None else {"description": given.description}
        parameters = given.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": {"name": given.name, **described, "parameters": parameters}}


class NamedFunction(Nullable):
    """The name of a function."""

    name: FunctionName


class NamedToolChoice(Nullable):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: NamedFunction


def check_choice(choice: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return the checked `tool_choice`. The errors of a union would not name the field alone."""
    try:
        return check(choice)
    except ValidationError:
        raise PydanticCustomError(
            "tool_choice", "must be none, auto, required, or an object of type function with the name of one"
        ) from None


ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedToolChoice, WrapValidator(check_choice)]


class FunctionCall(Nullable):
    """A call of a function, as the model has written it. `arguments` is the text of a JSON object."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    arguments: Text = ""


class ToolCall(Nullable):
    """A call of a tool that an earlier answer of the model contains."""

    id: CallId
    type: Literal["function"] = "function"
    function: FunctionCall

    def for_template(self) -> dict[str, Any]:
        """Return the call as chat templates read it, with the arguments as an object.

        Arguments that are no object stay text: the model may have written them, too.
        """
        text, arguments = self.function.arguments, None
        with suppress(ValueError):
            arguments = from_json(text or "{}")
        function = {
            "name": self.function.name,
            "arguments": arguments if isinstance(arguments, dict) else text,
        }
        return {"id": self.id, "type": "function", "function": function}


class ToolOptions(Nullable):
    """The tools that a chat offers to the model, and how the model may call them."""

    tools: Annotated[list[Tool], FailFast(), Field(max_length=MAX_TOOLS)] = Field([], repr=False)
    """The functions that the model may call. The client runs them."""
    tool_choice: ToolChoice = "auto"
    """With `auto` the model may call tools, with `required` it calls at least one, and with `none` it sees no
    tools. An object with a function's name means a call of that function."""
    parallel_tool_calls: bool = True
    """With false, an answer has at most one call."""

    @field_validator("tools")
    @classmethod
    def _unique(cls, tools: list[Tool]) -> list[Tool]:
        if len({tool.function.name for tool in tools}) < len(tools):
            raise PydanticCustomError("tools", "two tools have the same name")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _offered(cls, choice: ToolChoice, fields: ValidationInfo) -> ToolChoice:
        names = {tool.function.name for tool in fields.data.get("tools", ())}
        if choice == "required" and not names:
            raise PydanticCustomError("tool_choice", "`required` needs tools")
        if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
            raise PydanticCustomError("tool_choice", "names a function that is not among the tools")
        return choice if names else "auto"  # without tools, none is the same, and the default is not stored

    @property
    def is_parsed(self) -> bool:
        """Whether calls of tools and reasoning are looked for in the answer."""
        return True

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model sees."""
        return [] if self.tool_choice == "none" else self.tools
