"""Event streams: the same events for every client, resumed from any cursor."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, Web, event_data, logged_events, start_job, token_events
from worker.jobs.events import Event, Succeeded, Token

DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})
HEARTBEAT_S = 0.3

#: Settings of this module's server.
SETTINGS = {"heartbeat_s": HEARTBEAT_S}


def read_all(web: Web, job_id: str) -> list[str]:
    """Read the job's stream to its end and return the data of its events."""
    with web.events(job_id) as stream:
        return event_data(list(stream))


def test_event_stream_is_the_same_for_every_client(web: Web) -> None:
    job_id = start_job(web)
    with web.events(job_id) as a, web.events(job_id) as b:
        seen_a, seen_b = [next(a), next(a)], [next(b)]
        web.worker.append(job_id, *token_events(0, 3))
        seen_a.append(next(a))
        with web.events(job_id) as late:
            seen_late = [next(late)]
            web.worker.append(job_id, *token_events(3, 2))
            web.worker.append(job_id, DONE)
            everything = [event_data(seen + list(rest)) for seen, rest in
                          ((seen_a, a), (seen_b, b), (seen_late, late))]  # fmt: skip
    log = logged_events(web.ledger, job_id)
    assert [json.loads(text)["n"] for text in log] == list(range(1, 9))
    assert everything == [log, log, log]
    assert read_all(web, job_id) == log
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_event_stream_sends_comments_while_idle(web: Web) -> None:
    job_id = web.submit()
    with web.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        lines = response.iter_lines()
        assert [next(lines) for _ in range(2)] == ["id: 1", "event: queued"]
        assert [next(lines) for _ in range(5)][2:] == [": still here"] * 3
        web.http.post(f"/v1/jobs/{job_id}/cancel")
        assert "event: canceled" in list(lines)


@pytest.mark.parametrize("ended", [False, True])
def test_event_stream_resumes_from_the_cursor(web: Web, ended: bool) -> None:
    job_id = start_job(web)
    web.worker.append(job_id, *token_events(0, 4))
    if ended:
        web.worker.append(job_id, DONE)
    with (
        web.events(job_id, starting_after=3) as by_query,
        web.events(job_id, headers={"Last-Event-ID": "5"}, starting_after=3) as by_header,
    ):
        if not ended:
            web.worker.append(job_id, DONE)
        assert event_data(list(by_query)) == logged_events(web.ledger, job_id, 3)
        assert event_data(list(by_header)) == logged_events(web.ledger, job_id, 5)
    with web.events(job_id, starting_after=7) as nothing_left:
        assert list(nothing_left) == []


@pytest.mark.parametrize("value", ["-1", "x", "", "1.5", "²", "9" * 50, "2"])
def test_event_stream_refuses_bad_cursors(web: Web, value: str) -> None:
    url = f"/v1/jobs/{web.submit()}/events"
    query = web.http.get(url, params={"starting_after": value})
    assert (query.status_code, query.json()["field"]) == (422, "starting_after")
    header = web.http.get(url, headers=[(b"Last-Event-ID", value.encode())])
    assert (header.status_code, header.json()["field"]) == (422, "Last-Event-ID")


def test_event_stream_of_unknown_job_answers_404(web: Web) -> None:
    response = web.http.get("/v1/jobs/nobody/events")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_event_stream_loses_nothing_in_a_flood(web: Web) -> None:
    job_id = start_job(web)

    def flood() -> None:
        for first in range(0, 1000, 5):
            web.worker.append(job_id, *token_events(first, 5))
        web.worker.append(job_id, DONE)

    with ThreadPoolExecutor(9) as pool:
        flooding = pool.submit(flood)
        clients = [pool.submit(read_all, web, job_id) for _ in range(8)]
        seen = [client.result(TIMEOUT_S) for client in clients]
        flooding.result(TIMEOUT_S)
    log = logged_events(web.ledger, job_id)
    assert len(log) == 1003
    assert all(texts == log for texts in seen)
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_event_stream_of_slow_client_reads_the_log(web: Web) -> None:
    job_id = start_job(web)
    with web.events(job_id) as stream:
        seen = [next(stream)]
        big: list[Event] = [Token("x" * 20_000, 0, 1)]
        for _ in range(600):  # more than the sockets' buffers and the inbox hold together
            web.worker.append(job_id, *big)
        web.worker.append(job_id, DONE)
        assert event_data(seen + list(stream)) == logged_events(web.ledger, job_id)


def test_event_stream_disconnects_leave_no_subscription(web: Web) -> None:
    job_id = start_job(web)
    for _ in range(3):
        with web.events(job_id) as stream:
            next(stream)
    with web.events(job_id) as stream:
        next(stream)
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")
    assert web.job(job_id)["state"] == "running"
    assert read_while_it_ends(web, job_id) == logged_events(web.ledger, job_id)


def read_while_it_ends(web: Web, job_id: str) -> list[str]:
    """Join the job's stream, end the job, and return the data of all events."""
    with web.events(job_id) as stream:
        seen = [next(stream)]
        web.worker.append(job_id, DONE)
        return event_data(seen + list(stream))


def test_event_stream_ends_when_the_job_vanishes(web: Web) -> None:
    job_id = start_job(web)
    with web.events(job_id) as stream:
        next(stream)
        web.reset()
        assert len(list(stream)) <= 1
