"""The id of each request: in its answer, in its log lines, and in no others."""

import logging
import threading

import pytest
from flask import Flask

from webapi.app import create_app
from webapi.services import request_ids
from worker.jobs.settings import Settings


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/v1/jobs/nobody", "/v1//models", "/docs"])
def test_request_id_is_new_in_every_answer(app: Flask, path: str) -> None:
    found = [app.test_client().get(path).headers.getlist("X-Request-Id") for _ in range(2)]
    assert [len(ids) for ids in found] == [1, 1]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("req_1.2:3/a=", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("%s", False),
        ("é", False),
    ],
)
def test_request_id_of_the_client_is_kept_if_it_is_safe_to_log(app: Flask, given: str, kept: bool) -> None:
    response = app.test_client().get("/livez", headers={"X-Request-Id": given})
    assert (response.headers["X-Request-Id"] == given) == kept


def test_request_id_is_in_the_log_lines_of_the_request(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    def route() -> str:
        logging.getLogger("a").warning("one")
        other = threading.Thread(target=logging.getLogger("b").warning, args=["of another thread"])
        other.start()
        other.join()
        logging.getLogger("gunicorn.error").error("%s", "two")
        raise RuntimeError

    app.add_url_rule("/route", view_func=route)
    request_id = app.test_client().get("/route").headers["X-Request-Id"]
    lines = [logging.Formatter(request_ids.LOG_FORMAT).format(record) for record in caplog.records]
    marked = {line.partition("] ")[2].splitlines()[0] for line in lines if f" [{request_id}] " in line}
    assert marked >= {"a: one", f"gunicorn.error: two (request {request_id})"}
    assert any("unexpected error" in line for line in marked)
    assert [line for line in lines if "of another thread" in line and " [-] " in line]
