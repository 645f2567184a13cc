"""Tests of the OpenAPI document: its routes, examples and events, and the page that shows it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flask import Flask
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.event_examples import ENDS, STEPS
from tests.support.stack import eventually
from tests.support.web.webstack import HELLO, Web, event_data, start_job
from webapi.app import create_app
from webapi.http.problems import STATUS
from webapi.openapi.document import EXAMPLES, build
from worker.jobs.settings import Settings

Json = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(redis_url="redis://127.0.0.1:1/0"))


@pytest.fixture(scope="module")
def document(app: Flask) -> Json:
    return build(app)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def fits(document: Json, schema: Json, value: Any) -> None:
    OAS31Validator(schema | {"components": document["components"]}).validate(value)


def test_document_is_valid_openapi(document: Json) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")


def test_document_has_exactly_the_routes_of_the_app(app: Flask, document: Json) -> None:
    rules = {
        (method.lower(), re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS") and rule.endpoint.split(".")[0] not in ("openapi", "page")
    }
    assert {(method, path) for method, path, _ in operations(document)} == rules


def test_document_routes_have_summaries_and_errors(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for _, path, operation in operations(document):
        assert operation["summary"].endswith("."), path
        statuses = set(operation["responses"])
        assert statuses >= {"500", "503"}
        assert ({"401", "403"} <= statuses) == (path not in ("/livez", "/readyz", "/health", "/version"))
    used = {int(status) for _, _, operation in operations(document) for status in operation["responses"]}
    assert used >= set(STATUS.values())


def test_document_names_the_scope_of_each_route(document: Json) -> None:
    found = {
        (method, path): [scheme["key"] for scheme in operation["security"] if "key" in scheme]
        for method, path, operation in operations(document)
    }
    assert found["post", "/v1/jobs/chat"] == [["submit"]]
    assert found["get", "/v1/jobs/{job_id}/result"] == [["read"]]
    assert found["get", "/metrics"] == [["metrics"]]
    assert found["get", "/livez"] == []


def test_document_examples_fit_schemas(document: Json) -> None:
    seen = set()
    for _, _, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for part in (*bodies, *operation["responses"].values()):
            for media, content in part.get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    seen.add(name)
                    value = example["value"]
                    if media == "multipart/form-data":  # the example has no files
                        value = dict.fromkeys(content["schema"]["required"], "") | value
                    fits(document, content["schema"], value)
    fits(document, {"$ref": "#/components/schemas/Notice"}, EXAMPLES["Notice"])
    assert seen == EXAMPLES.keys() - {"Notice"}


def test_document_json_bodies_have_examples(document: Json) -> None:
    for method, path, operation in operations(document):
        good = [answer for status, answer in operation["responses"].items() if status < "300"]
        for part in (operation.get("requestBody", {}), *good):
            for media, content in part.get("content", {}).items():
                if media in ("application/json", "multipart/form-data"):
                    assert content["examples"], (method, path)


def test_document_describes_every_event(web: Web, document: Json) -> None:
    jobs = [start_job(web) for _ in ENDS]
    web.worker.append(jobs[0], *STEPS)
    for job_id, end in zip(jobs, ENDS, strict=True):
        web.worker.append(job_id, end)
    seen = set()
    for job_id in jobs:
        with web.events(job_id) as events:
            for text in event_data(list(events)):
                fits(document, {"$ref": "#/components/schemas/EventDocument"}, json.loads(text))
                seen.add(json.loads(text)["type"])
    mapping = document["components"]["schemas"]["EventDocument"]["discriminator"]["mapping"]
    assert seen == mapping.keys() - {"requeued"}
    requeued = {"n": 3, "type": "requeued", "job": "a", "attempt": 1, "time": "2026-01-01T00:00:00Z"}
    fits(document, {"$ref": "#/components/schemas/EventDocument"}, requeued | {"reason": "drain"})


def test_document_is_served(web: Web, document: Json) -> None:
    response = web.http.get("/openapi.json")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    expected = json.loads(json.dumps(document))  # the models of the last test go a moment later
    eventually(lambda: web.http.get("/openapi.json").json() == expected, "the document")
    assert web.http.post(
        "/v1/jobs/chat", json=EXAMPLES["ChatJob"] | {"messages": HELLO["messages"]}
    ).is_success


def test_page_loads_nothing_from_other_hosts(web: Web) -> None:
    page = web.http.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for name in loaded:
        assert "//" not in name
        response = web.http.get(httpx.URL(page.url).join(name))
        assert response.is_success
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in page.text
    for outside in ("../__init__.py", "%2e%2e%2f__init__.py", "none.js"):
        assert web.http.get(f"/docs/{outside}").status_code == 404
