"""The client's parser of event streams: whatever a server sends, it yields events or raises `ApiError`."""

import json

import httpx
from hypothesis import given
from hypothesis import strategies as st

from webapi.client import ApiError, Client

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["n", "type"]), inner),
)
EVENT = st.fixed_dictionaries(
    {"n": st.integers(), "type": st.sampled_from(["token", "succeeded"]) | st.text()}
)
LINE = st.one_of(
    (EVENT | JSON).map(lambda value: b"data: " + json.dumps(value).encode()),
    st.sampled_from([b"", b": heartbeat", b"event: token", b"id: 1", b"retry: 1", b"data:"]),
    st.binary(max_size=40),
    st.just(b"data: " + b"[" * 5_000),
)
#: One client for all examples, because each would set TLS up for itself.
CLIENT = Client("http://stoker", retry_waits_s=())
STREAM = st.lists(LINE, max_size=20).map(b"\n".join)


@given(
    stream=STREAM,
    status=st.sampled_from([200, 200, 200, 204, 401, 502]),
    kind=st.sampled_from(["text/event-stream", "text/event-stream", "text/html", "application/problem+json"]),
    encoding=st.sampled_from(["identity", "identity", "gzip", "br", "?"]),
)
def test_client_of_any_stream_yields_events_or_raises_api_error(
    stream: bytes, status: int, kind: str, encoding: str
) -> None:
    headers = {"content-type": kind, "content-encoding": encoding}
    CLIENT.http = httpx.Client(
        base_url="http://stoker",
        transport=httpx.MockTransport(
            lambda _: httpx.Response(status, headers=headers, stream=httpx.ByteStream(stream))
        ),
    )
    try:
        for event in CLIENT.events("j"):
            assert isinstance(event["n"], int)
            assert isinstance(event["type"], str)
        CLIENT.job("j")
    except ApiError:
        pass
