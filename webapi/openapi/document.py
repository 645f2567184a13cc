"""Builds the OpenAPI document: paths from the app's rules, summaries from docstrings, schemas from models."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files

from flask import Flask
from openapi_pydantic import (
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
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import Rule

from webapi.description.parts import (
    JSON,
    Json,
    component,
    header,
    parameter,
    reference,
    without_null,
)
from webapi.description.route import AnswerSpec, Route, route_of
from webapi.http.problems import PROBLEM_JSON, Problem
from webapi.kinds.served import is_served
from webapi.openai.errors import ErrorDocument, handles
from webapi.openapi.encoding import encoding_of
from webapi.openapi.schemas import schemas_of
from webapi.openapi.webhooks import WEBHOOKS
from worker.jobs.cards import ModelCard

__all__ = ["EXAMPLES", "build"]

EXAMPLES: Json = json.loads(files("webapi.openapi").joinpath("examples.json").read_text("utf-8"))

ABOUT = (
    "Chat and video jobs on GPUs whose models stay loaded. "
    "Every job has a stream of numbered events, which ends with exactly one terminal event."
)

#: Error statuses of all routes, and of the routes that need a key.
ALWAYS, GUARDED = (500, 503), (401, 403)
RETRY_AFTER = {"Retry-After": header("Seconds to wait before a retry.", type="integer", minimum=1)}
ERROR_HEADERS: Mapping[int, Mapping[str, Header]] = {
    401: {"WWW-Authenticate": header("The authentication scheme.", const="Bearer")},
    416: {"Content-Range": header("The size of the video in bytes.", pattern=r"^bytes \*/\d+$")},
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}
SECURITY: Json = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": (
            "An API key (`stoker keys create`), which must have the listed scope. "
            "As long as no key exists, the API serves only this machine."
        ),
    },
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": (
            "A stream token from `POST /v1/jobs/{job_id}/token`. Browsers may send it as a cookie instead."
        ),
    },
}


def build(app: Flask, prefix: str = "", cards: Sequence[ModelCard] = ()) -> Json:
    """Return the OpenAPI document of the app's routes as JSON values.

    `prefix` is the start of all paths, if a proxy has removed one. `cards` are those of live models, whose
    options the forms have. The document leaves out the routes that submit jobs of kinds that are not served.
    """
    settings = app.extensions["stoker"].settings
    paths: dict[str, PathItem] = {}
    routes: list[Route] = []
    for rule in app.url_map.iter_rules():
        route = route_of(app, rule.endpoint)
        if route.answers and is_served(route, settings):
            routes.append(route)
            path = re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule)
            item = paths.setdefault(path, PathItem())
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                setattr(item, method.lower(), _operation(app, rule, route, path, cards))
    document = OpenAPI(
        openapi="3.1.1",
        info=Info(title="Stoker", version=version("stoker"), description=ABOUT),
        servers=[Server(url=prefix or "/")],
        paths=paths,
        webhooks=WEBHOOKS,
    ).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return document | {"components": {"schemas": schemas_of(routes), "securitySchemes": SECURITY}}


def _operation(app: Flask, rule: Rule, route: Route, path: str, cards: Sequence[ModelCard]) -> Operation:
    blueprint, _, name = rule.endpoint.partition(".")
    summary, _, more = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")
    ids = [_id(name) for name in re.findall(r"{(\w+)}", path)]
    statuses = {*route.errors, *ALWAYS, *(() if route.scope == "public" else GUARDED)}
    answers = {status: _success(answer, blueprint) for status, answer in route.answers.items()}
    errors = {status: _error(status, path) for status in statuses}
    body = _body(app, route, cards)
    return Operation(
        tags=[blueprint],
        summary=summary,
        description=re.sub(r"\n\s+", "\n", more).strip() or summary,
        operationId=f"{blueprint}_{name}",
        parameters=[*ids, *_query(route.query), *route.parameters],
        responses={str(status): answer for status, answer in sorted((errors | answers).items())},
        security=_security(route),
        **({} if body is None else {"requestBody": body}),
    )


def _security(route: Route) -> list[dict[str, list[str]]]:
    """Return the alternative ways to authenticate."""
    key: list[dict[str, list[str]]] = [] if route.scope == "public" else [{"key": [route.scope]}]
    token: list[dict[str, list[str]]] = [{"token": []}] if route.reads else []
    return [*key, *token]


def _id(name: str) -> Parameter:
    return parameter(name, "", "path", required=True, type="string", minLength=1)


def _query(model: type[BaseModel] | None) -> Iterable[Parameter]:
    document = model.model_json_schema() if model else {}
    for name, schema in document.get("properties", {}).items():
        yield parameter(name, "", "query", name in document.get("required", ()), **without_null(schema))


def _media(schema: Reference | Schema, example: str) -> MediaType:
    found = EXAMPLES.get(example)
    if found is None:
        return MediaType(media_type_schema=schema)
    return MediaType(media_type_schema=schema, examples={example: Example(value=found)})


def _body(app: Flask, route: Route, cards: Sequence[ModelCard]) -> RequestBody | None:
    body = route.body
    if body and body.model:
        media = _media(reference(body.model), component(body.model))
        return RequestBody(content={JSON: media}, required=True)
    if not body or not body.form:
        return None
    kind = route.submits
    default = app.extensions["stoker"].settings.model_name(kind) if kind else ""
    schema = body.form([card for card in cards if card.kind == kind], default)
    fits = EXAMPLES[body.example].keys() <= schema["properties"].keys()
    form = _media(Schema.model_validate(schema), body.example if fits else "")
    form.encoding = encoding_of(schema)
    return RequestBody(content={"multipart/form-data": form}, required=True)


def _success(answer: AnswerSpec, blueprint: str) -> Response:
    content = {
        media: _media(Schema.model_validate(schema), f"{blueprint} {media}")
        for media, schema in answer.content.items()
    }
    if answer.model:
        content[JSON] = _media(reference(answer.model), component(answer.model))
    known: Json = {"content": content} if content else {}
    return Response(description=answer.description, headers=dict(answer.headers), **known)


def _error(status: int, path: str) -> Response:
    model, media = (ErrorDocument, JSON) if handles(path) else (Problem, PROBLEM_JSON)
    return Response(
        description=HTTP_STATUS_CODES[status],
        headers=dict(ERROR_HEADERS.get(status, {})),
        content={media: _media(reference(model), f"{component(model)} {status}")},
    )
