"""The parsers of request bodies: whatever a client sends, they accept it or refuse it with a 4xx."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.web.webstack import tiny_template
from tests.unit.jobs.test_option_texts import Everything
from webapi.app import create_app
from webapi.openai.translate import parse_request
from worker.jobs.cards import ModelCard
from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.specs import ChatJob

#: Values of every type, some of which fields accept.
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["user", "auto"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | VALUE, "content": st.text() | VALUE}
)
FIELDS = [*ChatJob.model_fields, "stream", "stream_options", "tools", "n", "logit_bias", "response_format"]
BODY = st.dictionaries(st.sampled_from(FIELDS) | st.text(), VALUE, max_size=4).flatmap(
    lambda fields: st.lists(MESSAGE, max_size=3).map(lambda messages: {"messages": messages} | fields)
)
TEXT = BODY.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=200)
CUT = st.tuples(TEXT, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]])

PART = st.tuples(
    st.sampled_from([b"file", b"count", b"tint", b"scale", b"mask", b"pad", b"model"])
    | st.binary(max_size=20),
    st.sampled_from([b"", b'; filename="a.mp4"', b"; filename*=UTF-8''%zz"]) | st.binary(max_size=20),
    st.sampled_from([b"good", b"#00ff00", b"7", b"1e5", b"matte", b"last"]) | st.binary(max_size=100),
)


def form(parts: list[tuple[bytes, bytes, bytes]], newline: bytes, end: int) -> bytes:
    """Return a multipart body with the boundary `b`, cut off at `end`, or whole for 0."""
    head = b"--b\r\nContent-Disposition: form-data; name="
    lines = (head + name + file + b"\r\n\r\n" + value + newline for name, file, value in parts)
    return (b"".join(lines) + b"--b--\r\n")[: end or None]


FORM = st.builds(
    form, st.lists(PART, max_size=4), st.sampled_from([b"\r\n", b"\n", b""]), st.integers(0, 400)
)

#: All examples of a test share the app.
ONE_APP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def client(ledger: Ledger) -> Iterator[FlaskClient]:
    """A client of an app that knows one chat model and one video model."""
    template = tiny_template()
    video = ModelCard("matte", "video", "video.matte", parameters=Everything.model_json_schema())
    Registry(ledger.store).publish_model(video)
    card = ModelCard(ledger.store.settings.model_name("chat"), "chat", "chat.tiny", 64, digest="1")
    Registry(ledger.store).publish_model(card, template.to_json())
    changes = {"no_auth": True, "log_level": "ERROR", "model_grace_s": 3600}  # no worker serves the model
    with create_app(ledger.store.settings.replace(**changes)).test_client() as client:
        yield client


@ONE_APP
@given(body=TEXT | CUT)
def test_api_of_any_json_accepts_or_refuses(client: FlaskClient, body: bytes) -> None:
    response = client.post("/v1/jobs/chat", data=body, content_type="application/json")
    assert response.status_code == 202 or 400 <= response.status_code < 500, response.text
    with suppress(ValueError, InvalidInput):
        parse_request(json.loads(body))


@ONE_APP
@given(body=FORM | st.binary(max_size=400))
def test_api_of_any_form_accepts_or_refuses(client: FlaskClient, body: bytes) -> None:
    response = client.post("/v1/jobs/video", data=body, content_type="multipart/form-data; boundary=b")
    assert 400 <= response.status_code < 500, response.text
