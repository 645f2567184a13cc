"""The parts of which descriptions are made: headers, parameters and schemas."""

from typing import Any

from openapi_pydantic import Header, Parameter, Reference, Schema
from pydantic import BaseModel

__all__ = [
    "BINARY",
    "EVENT_STREAM",
    "JSON",
    "MP4",
    "NDJSON",
    "RECORDS",
    "SVG",
    "TEXT",
    "Json",
    "component",
    "header",
    "parameter",
    "reference",
    "sse_event",
    "without_null",
]

Json = dict[str, Any]

JSON, EVENT_STREAM, SVG = "application/json", "text/event-stream", "image/svg+xml"
MP4, NDJSON = "video/mp4", "application/x-ndjson"
TEXT: Json = {"type": "string"}
RECORDS: Json = TEXT | {"description": "A line of JSON for each frame, with its `frame` and `time`."}
#: Raw bytes. OpenAPI 3.1 needs no schema for them; this one stands where a schema is required.
BINARY: Json = {"type": "string", "contentMediaType": "application/octet-stream"}


def sse_event(data: Json) -> Json:
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


def without_null(schema: Json) -> Json:
    """Return a field's schema for forms and queries. There, clients omit a field instead of sending null."""
    (shape,) = (each for each in schema.get("anyOf", [schema]) if each.get("type") != "null")
    return {name: value for name, value in shape.items() if name != "default" or value is not None}
