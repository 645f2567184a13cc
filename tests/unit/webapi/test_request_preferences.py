"""The headers `Prefer: wait` and `Idempotency-Key`."""

from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel

from webapi.submission.request_preferences import MAX_WAIT_S, preferred_wait_s, read_idempotency_key
from worker.jobs.specs import ChatJob, validate


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("wait=5", 5),
        ("wait=005", 5),
        ("wait=0", 0),
        (f"wait={MAX_WAIT_S + 1}", MAX_WAIT_S),
        ("wait=" + "9" * 5000, MAX_WAIT_S),
        ("wait=soon", None),
        ("wait=\u00b2", None),
        ("wait", None),
        ("", None),
    ],
)
def test_preferred_wait_s_is_a_number_up_to_the_maximum(prefer: str, wait_s: int | None) -> None:
    with Flask("test").test_request_context(headers={"Prefer": prefer}):
        assert preferred_wait_s() == wait_s


class NewerChatJob(BaseModel):
    """A chat of a newer release, with its fields in another order, and one more."""

    temperature: float = 1.0
    added: int = 1
    max_tokens: int = 256
    messages: list[dict[str, str]]


def fingerprint(job: Any) -> str:
    with Flask("test").test_request_context("/v1/jobs/chat", headers={"Idempotency-Key": "k"}):
        key = read_idempotency_key(job)
    assert key is not None
    return key.fingerprint


def test_read_idempotency_key_has_the_same_fingerprint_in_a_newer_release() -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
    older, newer = validate(ChatJob, body), NewerChatJob.model_validate(body)
    assert fingerprint(older) == fingerprint(newer)
    assert fingerprint(older) != fingerprint(validate(ChatJob, body | {"max_tokens": 6}))
