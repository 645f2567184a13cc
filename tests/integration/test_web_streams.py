import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S, Web, data, in_log, started, tokens
from worker.jobs.events import Event, Succeeded, Token

DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})
HEARTBEAT_S = 0.3

#: Of this module's server.
SETTINGS = {"heartbeat_s": HEARTBEAT_S}


def read_all(web: Web, job_id: str) -> list[str]:
    with web.events(job_id) as stream:
        return data(list(stream))


def test_two_clients_a_late_one_and_one_after_the_end_get_the_same(web: Web) -> None:
    job_id = started(web)
    with web.events(job_id) as a, web.events(job_id) as b:
        seen_a, seen_b = [next(a), next(a)], [next(b)]
        web.worker.append(job_id, *tokens(0, 3))
        seen_a.append(next(a))
        with web.events(job_id) as late:
            seen_late = [next(late)]
            web.worker.append(job_id, *tokens(3, 2))
            web.worker.append(job_id, DONE)
            everything = [data(seen + list(rest)) for seen, rest in
                          ((seen_a, a), (seen_b, b), (seen_late, late))]  # fmt: skip
    log = in_log(web.ledger, job_id)
    assert [json.loads(text)["n"] for text in log] == list(range(1, 9))
    assert everything == [log, log, log]
    assert read_all(web, job_id) == log
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_a_stream_that_waits_hears_of_it_and_is_not_buffered(web: Web) -> None:
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
def test_a_client_resumes_where_it_was(web: Web, ended: bool) -> None:
    job_id = started(web)
    web.worker.append(job_id, *tokens(0, 4))
    if ended:
        web.worker.append(job_id, DONE)
    with (
        web.events(job_id, starting_after=3) as by_query,
        web.events(job_id, headers={"Last-Event-ID": "5"}, starting_after=3) as by_header,
    ):
        if not ended:
            web.worker.append(job_id, DONE)
        assert data(list(by_query)) == in_log(web.ledger, job_id, 3)
        assert data(list(by_header)) == in_log(web.ledger, job_id, 5)
    with web.events(job_id, starting_after=7) as nothing_left:
        assert list(nothing_left) == []


@pytest.mark.parametrize("value", ["-1", "x", "", "1.5", "²", "9" * 50, "2"])
def test_a_cursor_that_is_no_number_of_an_event_is_refused(web: Web, value: str) -> None:
    url = f"/v1/jobs/{web.submit()}/events"
    query = web.http.get(url, params={"starting_after": value})
    assert (query.status_code, query.json()["field"]) == (422, "starting_after")
    header = web.http.get(url, headers=[(b"Last-Event-ID", value.encode())])
    assert (header.status_code, header.json()["field"]) == (422, "Last-Event-ID")


def test_no_job_no_stream(web: Web) -> None:
    response = web.http.get("/v1/jobs/nobody/events")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_nothing_is_lost_while_events_flood(web: Web) -> None:
    job_id = started(web)

    def flood() -> None:
        for first in range(0, 1000, 5):
            web.worker.append(job_id, *tokens(first, 5))
        web.worker.append(job_id, DONE)

    with ThreadPoolExecutor(9) as pool:
        flooding = pool.submit(flood)
        clients = [pool.submit(read_all, web, job_id) for _ in range(8)]
        seen = [client.result(TIMEOUT_S) for client in clients]
        flooding.result(TIMEOUT_S)
    log = in_log(web.ledger, job_id)
    assert len(log) == 1003
    assert all(texts == log for texts in seen)
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_a_client_that_does_not_read_falls_back_to_the_log(web: Web) -> None:
    job_id = started(web)
    with web.events(job_id) as stream:
        seen = [next(stream)]
        big: list[Event] = [Token("x" * 20_000, 0, (0,))]
        for _ in range(600):  # more than the sockets' buffers and the inbox hold together
            web.worker.append(job_id, *big)
        web.worker.append(job_id, DONE)
        assert data(seen + list(stream)) == in_log(web.ledger, job_id)


def test_clients_that_hang_up_leave_nothing_behind(web: Web) -> None:
    job_id = started(web)
    for _ in range(3):
        with web.events(job_id) as stream:
            next(stream)
    with web.events(job_id) as stream:
        next(stream)
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")
    assert web.job(job_id)["state"] == "running"
    assert read_while_it_ends(web, job_id) == in_log(web.ledger, job_id)


def read_while_it_ends(web: Web, job_id: str) -> list[str]:
    with web.events(job_id) as stream:
        seen = [next(stream)]
        web.worker.append(job_id, DONE)
        return data(seen + list(stream))


def test_a_stream_of_a_job_that_vanishes_ends(web: Web) -> None:
    job_id = started(web)
    with web.events(job_id) as stream:
        next(stream)
        web.reset()
        assert len(list(stream)) <= 1
