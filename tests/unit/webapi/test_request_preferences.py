"""The value of `Prefer: wait`."""

import pytest
from flask import Flask

from webapi.submission.request_preferences import MAX_WAIT_S, preferred_wait_s


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
