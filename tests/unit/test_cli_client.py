"""The API client on broken event streams."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from webapi.client import ApiError, Client, event_source

Handler = Callable[[httpx.Request], httpx.Response]


def sse(*numbers: int, last: str = "token") -> httpx.Response:
    kinds = ["token"] * (len(numbers) - 1) + [last]
    events = [{"n": n, "type": kind} for n, kind in zip(numbers, kinds, strict=True)]
    text = "".join(
        f"id: {e['n']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n: heartbeat\n\n" for e in events
    )
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


def client(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(event_source, "RETRIES_S", (0.0, 0.0, 0.0))
    made = Client("http://stoker")
    made.http = httpx.Client(base_url="http://stoker", transport=httpx.MockTransport(handler))
    return made


def test_a_broken_stream_is_resumed_after_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [sse(1, 2), httpx.Response(502), httpx.ReadTimeout("slow"), sse(3), sse(4, last="succeeded")]
    )
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Last-Event-ID"])
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    events = client(handler, monkeypatch).events("j")
    assert [event["n"] for event in events] == [1, 2, 3, 4]
    assert asked == ["0", "2", "2", "2", "3"]


def test_a_stream_that_stays_broken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError, match=r"^the event stream at http://stoker is broken: status 503$"):
        list(client(lambda _: httpx.Response(503), monkeypatch).events("j"))


def test_a_refused_stream_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        headers = {"content-type": "application/problem+json"}
        return httpx.Response(404, headers=headers, json={"detail": "no such job"})

    with pytest.raises(ApiError, match=r"^no such job$"):
        list(client(handler, monkeypatch).events("j"))
    assert len(asked) == 1
