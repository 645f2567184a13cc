"""Tests that the client of the API resumes broken event streams."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.newer_events import NewerFailed, NewerSucceeded, NewerToken, Remark
from webapi.client import ApiError, Client
from webapi.client.errors import ApiUnavailable
from webapi.client.timeline import Timeline
from worker.jobs.events import Event, Queued, Started, Succeeded, Token

Handler = Callable[[httpx.Request], httpx.Response]


def sse(*numbers: int, last: str = "token") -> httpx.Response:
    """Return a stream of events with these numbers: tokens, and at the end an event of type `last`."""
    kinds = ["token"] * (len(numbers) - 1) + [last]
    events = [{"n": n, "type": kind} for n, kind in zip(numbers, kinds, strict=True)]
    text = "".join(
        f"id: {e['n']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n: heartbeat\n\n" for e in events
    )
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


def stream(*events: Event) -> httpx.Response:
    """Return a stream of these events, one a second."""
    text = ""
    for n, event in enumerate(events, 1):
        envelope = {"n": n, "type": event.type, "job": "j", "attempt": 1, "time": f"2026-01-01T00:00:0{n}Z"}
        text += f"data: {json.dumps(envelope | json.loads(event.fields()))}\n\n"
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


def test_client_events_are_json_objects_with_typed_bodies() -> None:
    done = Succeeded({"text": "Hi"}, {})
    queued, token, succeeded = client(lambda _: stream(Queued(4), Token("Hi", 0, 1), done)).follow("j")
    assert (queued["n"], queued["type"], queued["position"], queued.body) == (1, "queued", 4, Queued(4))
    assert token.body == Token("Hi", 0, 1)
    assert succeeded.body == done
    assert json.loads(json.dumps(token))["text"] == "Hi"


def test_client_passes_events_of_newer_server_on() -> None:
    done = NewerSucceeded({"text": "Hi"}, {})
    remark, token, end = client(lambda _: stream(Remark(), NewerToken("Hi", 0, 1), done)).follow("j")
    assert (remark["type"], remark["text"], remark.body) == ("remark", "Hm.", None)
    assert (token["weight"], token.body) == (7, Token("Hi", 0, 1))
    assert (end["cost"], end.body) == (0.5, Succeeded({"text": "Hi"}, {}))


def test_client_follow_reports_failure_of_newer_server() -> None:
    with pytest.raises(ApiError, match=r"^the job failed: out_of_memory: The GPU is full\.$"):
        list(client(lambda _: stream(Remark(), NewerFailed("out_of_memory", "The GPU is full."))).follow("j"))


def test_timeline_skips_events_of_newer_server() -> None:
    times = Timeline()
    events = Queued(1), Started("w", "cpu"), Remark(), NewerToken("Hi", 0, 2), NewerSucceeded({}, {})
    assert len(list(times.watch(client(lambda _: stream(*events)).events("j")))) == 5
    assert (times.started - times.queued, times.first - times.queued, times.ended - times.queued) == (1, 3, 4)
    assert times.done == 2


class Broken(httpx.SyncByteStream):
    """A body that breaks off after its first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"the "
        raise httpx.ReadError("broken")


def test_client_download_continues_where_it_broke_off(tmp_path: Path) -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [
            httpx.Response(200, stream=Broken()),
            httpx.ConnectError("[Errno 111] Connection refused"),
            httpx.Response(502),
            httpx.Response(206, content=b"result"),
        ]
    )
    ranges = []

    def handler(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("Range"))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client(handler).download("j", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"the result"
    assert ranges == [None, "bytes=4-", "bytes=4-", "bytes=4-"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_client_download_starts_anew_where_ranges_are_ignored(tmp_path: Path) -> None:
    answers = iter([httpx.Response(200, stream=Broken()), httpx.Response(200, content=b"another")])
    client(lambda _: next(answers)).download("j", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"another"


def test_client_cancel_waits_for_an_api_that_starts() -> None:
    answers = iter([httpx.Response(503), httpx.Response(202, json={"state": "running"})])
    assert client(lambda _: next(answers)).cancel("j") == {"state": "running"}
    with pytest.raises(ApiUnavailable, match="503"):
        client(lambda _: httpx.Response(503)).cancel("j")


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1", "ftp://h", "http://", "http://h:port", ""])
def test_client_refuses_what_is_not_the_url_of_an_api(url: str) -> None:
    with pytest.raises(
        ApiError, match=r"is not the URL of an API: it must look like http://127\.0\.0\.1:8000"
    ):
        Client(url)


def test_client_refuses_a_key_with_an_ellipsis() -> None:
    with pytest.raises(ApiError, match="`stoker keys create`"):
        Client("http://127.0.0.1:8000", api_key="sk-stoker-…")
