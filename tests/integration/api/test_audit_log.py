"""The audit log: submits, refused requests, and uses of keys."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.support.web.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.auth import audit
from webapi.keys.keys import Keys
from webapi.services.log_limiter import BURST
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def client(settings: Settings, ledger: Ledger) -> FlaskClient:
    Registry(ledger.store).publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    return create_app(settings.replace(log_level="ERROR")).test_client()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines of the audit log, without their times."""

    def found() -> list[dict[str, Any]]:
        records = (record for record in caplog.records if record.name == audit.logger.name)
        logged = [json.loads(record.getMessage()) for record in records]
        assert all(line.pop("request_id") for line in logged)
        return [{name: value for name, value in line.items() if name != "time"} for line in logged]

    return found


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_audit_log_names_the_key_of_a_submit(client: FlaskClient, ledger: Ledger, lines: Lines) -> None:
    new = Keys(ledger.store).create("laptop")
    job_id = client.post("/v1/jobs/chat", json=HELLO, headers=bearer(new.text)).get_json()["id"]
    caller = {"key": new.key.id, "name": "laptop", "address": "127.0.0.1"}
    request = {"method": "POST", "path": "/v1/jobs/chat"}
    assert lines() == [
        {"action": "key_used", **caller, **request},
        {"action": "job_submitted", **caller, **request, "job": job_id, "queue": CHAT},
    ]
    assert Keys(ledger.store).get(new.key.id).last_used_at is not None


def test_audit_log_has_submits_without_a_key(client: FlaskClient, lines: Lines) -> None:
    job_id = client.post("/v1/jobs/chat", json=HELLO).get_json()["id"]
    [line] = lines()
    assert (line["action"], line["job"], "key" in line) == ("job_submitted", job_id, False)


def test_audit_log_has_one_use_of_a_key_a_minute(client: FlaskClient, ledger: Ledger, lines: Lines) -> None:
    for name in ("a", "b"):
        headers = bearer(Keys(ledger.store).create(name).text)
        for _ in range(3):
            assert client.get("/v1/jobs", headers=headers).status_code == 200
    assert [(line["action"], line["name"]) for line in lines()] == [("key_used", "a"), ("key_used", "b")]


def test_audit_log_has_refused_requests(client: FlaskClient, ledger: Ledger, lines: Lines) -> None:
    keys = Keys(ledger.store)
    revoked, capped = keys.create("revoked"), keys.create("capped", scopes=["submit"], max_waiting=1)
    keys.revoke(revoked.key.id)
    client.get("/v1/jobs")
    client.get("/v1/jobs", headers={"Authorization": "Basic \xff"})
    client.get("/v1/jobs/a/events?token=secret", headers=bearer(revoked.text))
    client.get("/v1/queues", headers=bearer(capped.text))
    for _ in range(2):
        client.post("/v1/jobs/chat", json=HELLO, headers=bearer(capped.text))
    refused = [line for line in lines() if line["action"] == "request_refused"]
    assert [(line["status"], line["path"], line.get("key"), line.get("claimed_key")) for line in refused] == [
        (401, "/v1/jobs", None, None),
        (401, "/v1/jobs", None, None),
        (401, "/v1/jobs/a/events", None, revoked.key.id),
        (403, "/v1/queues", capped.key.id, None),
        (429, "/v1/jobs/chat", capped.key.id, None),
    ]


def test_audit_log_has_no_secrets(
    client: FlaskClient, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text, secret_prompt = (
        Keys(ledger.store).create("ci").text,
        {"messages": [{"role": "user", "content": "PIN 1"}]},
    )
    job_id = client.post("/v1/jobs/chat", json=secret_prompt, headers=bearer(text)).get_json()["id"]
    token = client.post(f"/v1/jobs/{job_id}/token", headers=bearer(text)).get_json()["token"]
    client.get(f"/v1/jobs/{job_id}/events", query_string={"token": token + "x"})
    client.get("/v1/jobs", headers=bearer(text[:-1] + "-"))
    assert caplog.text.count("request_refused") == 2
    for secret in (text[23:66], token, "PIN 1"):
        assert secret not in caplog.text


@pytest.mark.parametrize("control", ["\n", "\r", "\x1b[2J", "\x7f", "\x85", "\u2028"])
def test_audit_log_escapes_control_characters(
    client: FlaskClient, ledger: Ledger, lines: Lines, caplog: pytest.LogCaptureFixture, control: str
) -> None:
    Keys(ledger.store).create("ci")
    assert client.get(f"/v1/jobs/a{quote(control)}FAKE").status_code == 401
    [line] = lines()
    assert line["path"] == f"/v1/jobs/a{control}FAKE"
    [raw] = [record.getMessage() for record in caplog.records if record.name == audit.logger.name]
    assert (raw.isascii(), raw.isprintable()) == (True, True)


def test_audit_log_cuts_long_paths(client: FlaskClient, ledger: Ledger, lines: Lines) -> None:
    Keys(ledger.store).create("ci")
    client.get("/v1/jobs/" + "a" * 3000)
    [line] = lines()
    assert len(line["path"]) == 200


def test_audit_log_limits_refusals_of_each_caller(client: FlaskClient, ledger: Ledger, lines: Lines) -> None:
    headers = bearer(Keys(ledger.store).create("ci", scopes=["metrics"]).text)
    for _ in range(3 * BURST):
        client.get("/v1/jobs")
    client.get("/v1/jobs", headers=headers)
    refused = [line["status"] for line in lines() if line["action"] == "request_refused"]
    assert refused == [401] * BURST + [403]


def test_audit_log_counts_refusals_that_were_left_out(
    client: FlaskClient, ledger: Ledger, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    Keys(ledger.store).create("ci")
    for _ in range(BURST + 7):
        client.get("/v1/jobs")
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    client.get("/v1/jobs")
    assert [line.get("left_out") for line in lines()] == [None] * BURST + [7]
