"""The parts of a route's description: responses, errors, bodies, headers and parameters."""

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
    "Json",
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
#: Raw bytes. OpenAPI 3.1 needs no schema for them; this one stands where a schema is required.
BINARY: Json = {"type": "string", "contentMediaType": "application/octet-stream"}


def events(data: Json) -> Json:
    """Return the schema of one event of a stream. `data` are the schema keywords of its data string."""
    name: Json = {"type": "string"}
    return {
        "type": "object",
        "description": "One Server-Sent Event.",
        "properties": {"id": name, "event": name, "data": {"type": "string"} | data},
        "required": ["data"],
    }


def header(description: str, required: bool = True, **schema: Any) -> Header:
    """Return a response header. It is a string unless `schema` gives another type."""
    shape = Schema.model_validate({"type": "string"} | schema)
    return Header(description=description, required=required, param_schema=shape)


def parameter(
    name: str, description: str, place: str = "header", required: bool = False, **schema: Any
) -> Parameter:
    """Return a request parameter. `place` is `header`, `query` or `path`.

    The parameter is a string unless `schema` gives another type.
    """
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


LOCATION = {"Location": header("The URL of the job.", format="uri-reference")}
RETRY_AFTER = {"Retry-After": header("Seconds to wait before a retry.", type="integer", minimum=1)}
ACCEPT_RANGES = {"Accept-Ranges": header("The route supports byte ranges.", const="bytes")}
CONTENT_RANGE = {
    "Content-Range": header("The range of bytes in this response.", pattern=r"^bytes (\d+-\d+|\*)/\d+$")
}
X_STOKER_JOB = {"X-Stoker-Job": header("The job's id in the native API.", required=False)}


def without_null(schema: Json) -> Json:
    """Return a field's schema for forms and queries. There, clients omit a field instead of sending null."""
    (shape,) = (each for each in schema.get("anyOf", [schema]) if each.get("type") != "null")
    return {name: value for name, value in shape.items() if name != "default" or value is not None}


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """A response of success: the JSON of a `model`, `content` by media type, both, or no body at all."""

    description: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, Header] = field(default_factory=dict)
    content: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: the JSON of a `model`, or a multipart form with the schema `form`.

    `example` is the name of the form's example in `examples.json`.
    """

    model: type[BaseModel] | None = None
    form: Json | None = None
    example: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The parts of a route's description that its view's name and docstring do not give.

    `errors` are the error statuses besides those of every route. A route with `reads` accepts a stream token
    instead of a key.
    """

    answers: Mapping[int, AnswerSpec]
    errors: Sequence[int] = ()
    body: Body | None = None
    query: type[BaseModel] | None = None
    parameters: Sequence[Parameter] = ()
    reads: bool = False
