"""What routes are described with: their answers, errors, bodies, headers and parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openapi_pydantic import Header, Parameter, Reference, Schema
from pydantic import BaseModel

__all__ = [
    "ACCEPT_RANGES",
    "BINARY",
    "CONTENT_RANGE",
    "EVENT_STREAM",
    "JSON",
    "LOCATION",
    "MP4",
    "RETRY_AFTER",
    "SVG",
    "TEXT",
    "X_STOKER_JOB",
    "AnswerSpec",
    "Body",
    "Route",
    "component",
    "events",
    "header",
    "parameter",
    "reference",
    "without_null",
]

Json = dict[str, Any]

JSON, MP4, EVENT_STREAM, SVG = "application/json", "video/mp4", "text/event-stream", "image/svg+xml"
TEXT: Json = {"type": "string"}
#: OpenAPI 3.1: raw bytes need no schema but a place for one.
BINARY: Json = {"type": "string", "contentMediaType": "application/octet-stream"}


def events(data: Json) -> Json:
    """The schema of each event of a stream, whose `data` are such a string."""
    name: Json = {"type": "string"}
    return {
        "type": "object",
        "description": "One Server-Sent Event.",
        "properties": {"id": name, "event": name, "data": {"type": "string"} | data},
        "required": ["data"],
    }


def header(description: str, required: bool = True, **schema: Any) -> Header:
    """A header of answers; a string if `schema` does not say otherwise."""
    shape = Schema.model_validate({"type": "string"} | schema)
    return Header(description=description, required=required, param_schema=shape)


def parameter(
    name: str, description: str, place: str = "header", required: bool = False, **schema: Any
) -> Parameter:
    """A parameter of requests; a string if `schema` does not say otherwise."""
    known = {"name": name, "in": place, "required": required, "schema": schema or {"type": "string"}}
    return Parameter.model_validate(known | ({"description": description} if description else {}))


def component(model: type[BaseModel]) -> str:
    """Return the name of the model's schema among the document's components.

    It is the title that the model sets, else the name of its class.
    """
    return model.model_config.get("title") or model.__name__


def reference(model: type[BaseModel]) -> Reference:
    """Return a reference to the model's schema among the document's components."""
    return Reference.model_validate({"$ref": f"#/components/schemas/{component(model)}"})


LOCATION = {"Location": header("Where the job is.", format="uri-reference")}
RETRY_AFTER = {"Retry-After": header("Seconds until a retry is worth while.", type="integer", minimum=1)}
ACCEPT_RANGES = {"Accept-Ranges": header("That byte ranges can be asked for.", const="bytes")}
CONTENT_RANGE = {"Content-Range": header("Which bytes these are.", pattern=r"^bytes (\d+-\d+|\*)/\d+$")}
X_STOKER_JOB = {"X-Stoker-Job": header("The job's id, for the native routes.", required=False)}


def without_null(schema: Json) -> Json:
    """A field's schema for forms and queries, where what is null is left out."""
    (shape,) = (each for each in schema.get("anyOf", [schema]) if each.get("type") != "null")
    return {name: value for name, value in shape.items() if name != "default" or value is not None}


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """A good answer: a `model`'s JSON, or `content` by media type, or nothing."""

    what: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, Header] = field(default_factory=dict)
    content: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: a `model`'s JSON, or a form with this `schema`, whose example is the one of that name."""

    model: type[BaseModel] | None = None
    form: Json | None = None
    example: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """All that its view's name and docstring do not tell.

    `errors` come beside those that any route has; `reads` takes a stream token in a key's place; `free` needs
    no key.
    """

    answers: Mapping[int, AnswerSpec]
    errors: Sequence[int] = ()
    body: Body | None = None
    query: type[BaseModel] | None = None
    parameters: Sequence[Parameter] = ()
    reads: bool = False
    free: bool = False
