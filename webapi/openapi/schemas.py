"""Builds the schemas that the OpenAPI document's operations refer to."""

import json
import re
from collections.abc import Collection

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from webapi.description.parts import Json
from webapi.description.route import Route
from webapi.documents.events import EventDocument
from webapi.http.problems import Problem
from webapi.openai.errors import ErrorDocument
from webapi.openai.schema import ChatCompletionChunk, ChunkWithUsage
from webapi.openai.text_completions.schema import TextChunk, TextChunkWithUsage
from webapi.openapi.webhooks import Notice

__all__ = ["schemas_of"]


def schemas_of(routes: Collection[Route]) -> Json:
    """Return the schemas of all models of the routes, the events and the webhooks, by component name.

    Models of request bodies have the schema by which they are validated, all others that of their JSON.
    """
    received = {route.body.model for route in routes if route.body and route.body.model}
    answered = {answer.model for route in routes for answer in route.answers.values() if answer.model}
    answered |= {ErrorDocument, Problem, EventDocument, Notice, ChatCompletionChunk, ChunkWithUsage}
    answered |= {TextChunk, TextChunkWithUsage}
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in received),
        *((model, "serialization") for model in answered),
    ]
    wanted.sort(key=lambda each: each[0].__name__)
    _, schemas = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    return _by_title(schemas["$defs"])


def _by_title(schemas: Json) -> Json:
    """Return the schemas sorted and named by their titles. Pydantic names them by their classes."""
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    text = re.sub(r"(?<=#/components/schemas/)\w+", lambda found: names[found.group()], json.dumps(schemas))
    return {
        names[name]: schema
        for name, schema in sorted(json.loads(text).items(), key=lambda each: names[each[0]])
    }
