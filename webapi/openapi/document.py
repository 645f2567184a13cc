"""Builds the document: paths from the app's own rules, words from its docstrings, schemas from models."""

import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources import files

from flask import Flask
from openapi_pydantic import (
    Encoding,
    Example,
    Header,
    Info,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    Server,
)
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import Rule

from webapi.documents.events import EventDocument
from webapi.http.problems import PROBLEM_JSON, Problem
from webapi.openai.errors import ErrorDocument, speaks
from webapi.openai.schema import ChatCompletionChunk, ChunkWithUsage
from webapi.openapi import native, openai
from webapi.openapi.parts import (
    JSON,
    RETRY_AFTER,
    AnswerSpec,
    Body,
    Json,
    Route,
    component,
    header,
    parameter,
    reference,
    without_null,
)
from webapi.openapi.webhooks import WEBHOOKS, Notice

__all__ = ["EXAMPLES", "build", "documented"]

ROUTES: dict[str, Route] = native.ROUTES | openai.ROUTES
EXAMPLES: Json = json.loads(files("webapi.openapi").joinpath("examples.json").read_text("utf-8"))

ABOUT = (
    "Chat and video jobs on warm GPUs. Every job is a stream of numbered events that has exactly one ending."
)

#: Errors that any route may answer with, and those that only routes with keys do.
ALWAYS, GUARDED = (500, 503), (401,)
ERROR_HEADERS: Mapping[int, Mapping[str, Header]] = {
    401: {"WWW-Authenticate": header("How to say who one is.", const="Bearer")},
    416: {"Content-Range": header("How many bytes there are.", pattern=r"^bytes \*/\d+$")},
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}
SECURITY: Json = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`stoker keys create`). Until there is one, this machine alone is served.",
    },
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A stream token of `POST /v1/jobs/{job_id}/token`, which is a cookie too.",
    },
}


#: Media types of the files in forms. Nobody looks at them: what counts is what is in the files.
FILES = {"file": "video/*", "input_reference": "video/*", "background": "text/plain, image/*"}


def documented(app: Flask) -> Iterable[Rule]:
    """The rules that the document is about: all but those that show it."""
    return (rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("openapi."))


def build(app: Flask) -> Json:
    """The document of this app's routes. Raises KeyError for one that nothing is written about."""
    paths: dict[str, PathItem] = {}
    for rule in documented(app):
        path = re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule)
        item = paths.setdefault(path, PathItem())
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            setattr(item, method.lower(), _operation(app, rule, path))
    document = OpenAPI(
        openapi="3.1.1",
        info=Info(title="Stoker", version=version("stoker"), description=ABOUT),
        servers=[Server(url="/")],
        paths=paths,
        webhooks=WEBHOOKS,
    ).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return document | {"components": {"schemas": _schemas(), "securitySchemes": SECURITY}}


def _operation(app: Flask, rule: Rule, path: str) -> Operation:
    route = ROUTES[rule.endpoint]
    blueprint, _, name = rule.endpoint.partition(".")
    summary, _, more = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")
    ids = [_id(name) for name in re.findall(r"{(\w+)}", path)]
    statuses = {*route.errors, *ALWAYS, *(() if route.free else GUARDED)}
    answers = {status: _answer(answer, blueprint) for status, answer in route.answers.items()}
    errors = {status: _error(status, path) for status in statuses}
    return Operation(
        tags=[blueprint],
        summary=summary,
        description=re.sub(r"\n\s+", "\n", more).strip() or summary,
        operationId=f"{blueprint}_{name}",
        parameters=[*ids, *_query(route.query), *route.parameters],
        responses={str(status): answer for status, answer in sorted((answers | errors).items())},
        security=_security(route),
        **({} if route.body is None else {"requestBody": _body(route.body)}),
    )


def _security(route: Route) -> list[dict[str, list[str]]]:
    """In any one of these ways."""
    key: list[dict[str, list[str]]] = [] if route.free else [{"key": []}]
    token: list[dict[str, list[str]]] = [{"token": []}] if route.reads else []
    return [*key, *token]


def _id(name: str) -> Parameter:
    return parameter(name, "", "path", required=True, type="string", minLength=1)


def _query(model: type[BaseModel] | None) -> Iterable[Parameter]:
    for name, schema in (model.model_json_schema()["properties"] if model else {}).items():
        yield parameter(name, "", "query", **without_null(schema))


def _media(schema: Reference | Schema, example: str) -> MediaType:
    found = EXAMPLES.get(example)
    if found is None:
        return MediaType(media_type_schema=schema)
    return MediaType(media_type_schema=schema, examples={example: Example(value=found)})


def _body(body: Body) -> RequestBody:
    if body.model:
        return RequestBody(
            content={JSON: _media(reference(body.model), component(body.model))}, required=True
        )
    form = _media(Schema.model_validate(body.form), body.example)
    fields = (body.form or {})["properties"]
    form.encoding = {name: Encoding(contentType=kinds) for name, kinds in FILES.items() if name in fields}
    return RequestBody(content={"multipart/form-data": form}, required=True)


def _answer(answer: AnswerSpec, blueprint: str) -> Response:
    content = {
        media: _media(Schema.model_validate(schema), f"{blueprint} {media}")
        for media, schema in answer.content.items()
    }
    if answer.model:
        content[JSON] = _media(reference(answer.model), component(answer.model))
    known: Json = {"content": content} if content else {}
    return Response(description=answer.what, headers=dict(answer.headers), **known)


def _error(status: int, path: str) -> Response:
    model, media = (ErrorDocument, JSON) if speaks(path) else (Problem, PROBLEM_JSON)
    return Response(
        description=HTTP_STATUS_CODES[status],
        headers=dict(ERROR_HEADERS.get(status, {})),
        content={media: _media(reference(model), f"{component(model)} {status}")},
    )


def _schemas() -> Json:
    """Those of all models that are named anywhere, as they are sent or as they are received."""
    received = {route.body.model for route in ROUTES.values() if route.body and route.body.model}
    answered = {
        answer.model for route in ROUTES.values() for answer in route.answers.values() if answer.model
    }
    answered |= {ErrorDocument, Problem, EventDocument, Notice, ChatCompletionChunk, ChunkWithUsage}
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in received),
        *((model, "serialization") for model in answered),
    ]
    wanted.sort(key=lambda each: each[0].__name__)
    _, schemas = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    return _by_title(schemas["$defs"])


def _by_title(schemas: Json) -> Json:
    """Return the schemas under their titles, sorted. Pydantic has named them after their classes."""
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    text = re.sub(r"(?<=#/components/schemas/)\w+", lambda found: names[found.group()], json.dumps(schemas))
    return {
        names[name]: schema
        for name, schema in sorted(json.loads(text).items(), key=lambda each: names[each[0]])
    }
