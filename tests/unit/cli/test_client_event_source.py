"""Tests that the client of the API resumes broken event streams."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from webapi.client import ApiError, Client

Handler = Callable[[httpx.Request], httpx.Response]


def sse(*numbers: int, last: str = "token") -> httpx.Response:
    """Return a stream of events with these numbers: tokens, and at the end an event of type `last`."""
    kinds = ["token"] * (len(numbers) - 1) + [last]
    events = [{"n": n, "type": kind} for n, kind in zip(numbers, kinds, strict=True)]
    text = "".join(
        f"id: {e['n']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n: heartbeat\n\n" for e in events
    )
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


def client(handler: Handler) -> Client:
    """Return a client whose requests `handler` answers. It retries a broken stream three times at once."""
    made = Client("http://stoker", retry_waits_s=(0.0, 0.0, 0.0))
    made.http = httpx.Client(base_url="http://stoker", transport=httpx.MockTransport(handler))
    return made


def test_client_events_resume_after_last_event() -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [sse(1, 2), httpx.Response(502), httpx.ReadTimeout("slow"), sse(3), sse(4, last="succeeded")]
    )
    requests: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request.headers["Last-Event-ID"])
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    events = client(handler).events("j")
    assert [event["n"] for event in events] == [1, 2, 3, 4]
    assert requests == ["0", "2", "2", "2", "3"]


def test_client_events_end_if_none_follow() -> None:
    requests = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    assert list(client(handler).events("j", after=4)) == []
    assert len(requests) == 1


def test_client_events_give_up_after_all_retries() -> None:
    with pytest.raises(ApiError, match=r"^the event stream at http://stoker is broken: status 503$"):
        list(client(lambda _: httpx.Response(503)).events("j"))


def test_client_events_do_not_retry_refusal() -> None:
    requests = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        headers = {"content-type": "application/problem+json"}
        return httpx.Response(404, headers=headers, json={"detail": "no such job"})

    with pytest.raises(ApiError, match=r"^no such job$"):
        list(client(handler).events("j"))
    assert len(requests) == 1
