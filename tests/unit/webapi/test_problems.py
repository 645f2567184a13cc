"""Error responses: statuses, headers and the secrecy of unexpected errors."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis.exceptions import ResponseError

from webapi.app import create_app
from webapi.http.problems import STATUS
from worker.jobs import errors
from worker.jobs.settings import Settings


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


def raising(app: Flask, error: Exception) -> FlaskClient:
    """Return a client of the app, whose path `/raise` raises the error."""

    def route() -> str:
        raise error

    app.add_url_rule("/raise", view_func=route)
    return app.test_client()


def test_problem_of_unexpected_error_hides_its_message(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    response = raising(app, RuntimeError("secret")).get("/raise")
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "secret" not in response.text
    assert response.get_json()["code"] == "internal_error"
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidInput("file", "no"), 422, None),
        (errors.TooLarge("file", "no"), 413, None),
        (errors.JobNotFound("no"), 404, None),
        (errors.JobConflict("no"), 409, None),
        (errors.QueueFull("no", retry_after_s=7), 429, "7"),
        (errors.NotReady("no"), 503, "5"),
        (errors.EngineFailed("no"), 500, None),
        (ResponseError("OOM"), 503, "5"),
    ],
)
def test_problem_status_of_each_error(
    app: Flask, error: Exception, status: int, retry_after: str | None
) -> None:
    response = raising(app, error).get("/raise")
    assert (response.status_code, response.get_json()["status"]) == (status, status)
    assert response.headers.get("Retry-After") == retry_after


def test_problem_table_lists_subclasses_before_parents() -> None:
    seen: list[type[errors.StokerError]] = []
    for kind in STATUS:
        assert not issubclass(kind, tuple(seen))
        seen.append(kind)
