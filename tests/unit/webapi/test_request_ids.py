"""The id of each request: in its answer, in its log lines, and in no others."""

import logging
import threading

import pytest
from flask import Flask

from webapi.app import create_app
from worker.jobs.logs.formats import TextLines
from worker.jobs.logs.redaction import Redactor
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


class Lines(logging.Handler):
    """A handler that formats lines in the thread that logs them, as the real one does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.setFormatter(TextLines(Redactor()))

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def test_request_id_is_in_the_log_lines_of_the_request(app: Flask) -> None:
    def route() -> str:
        logging.getLogger("a").warning("one")
        other = threading.Thread(target=logging.getLogger("b").warning, args=["of another thread"])
        other.start()
        other.join()
        logging.getLogger("gunicorn.error").error("%s", "two")
        raise RuntimeError

    app.add_url_rule("/route", view_func=route)
    lines = Lines()
    logging.root.addHandler(lines)
    request_id = app.test_client().get("/route").headers["X-Request-Id"]
    logging.root.removeHandler(lines)
    marked = [line.partition(": ")[2] for line in lines.found if f" request_id={request_id}" in line]
    assert [line.partition(" request_id=")[0] for line in marked] == ["one", "two", "unexpected error"]
    [other] = [line for line in lines.found if "of another thread" in line]
    assert "request_id" not in other
