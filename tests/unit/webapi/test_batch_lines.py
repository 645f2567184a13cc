"""The lines of a batch's input file: where they are, and what is wrong with them."""

import io
import json
from typing import Any

import pytest

from webapi.batches import lines
from webapi.batches.lines import InputFile

URL = "/v1/chat/completions"


def line(**changes: Any) -> bytes:
    fields = {"custom_id": "a", "method": "POST", "url": URL, "body": {}} | changes
    return json.dumps(fields, ensure_ascii=False).encode()


def scan(*parts: bytes, most: int = 100) -> InputFile:
    found = InputFile(io.BytesIO(b"\n".join(parts)))
    found.scan(URL, most)
    return found


def faults(*parts: bytes, most: int = 100) -> list[tuple[int | None, str]]:
    return [(error.line, error.code) for error in scan(*parts, most=most).errors]


def test_requests_are_read_by_their_numbers() -> None:
    found = scan(line(body={"n": 0}), b"", b"  \r", line(custom_id="ü\u2028", body={"n": 1}), b"")
    assert found.errors == []
    assert [found.request(number).body for number in (1, 0)] == [{"n": 1}, {"n": 0}]
    assert found.request(1).custom_id == "ü\u2028"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"{", "invalid_json_line"),
        (b"[]", "invalid_json_line"),
        (b"\xff", "invalid_json_line"),
        (b"[" * 100, "invalid_json_line"),
        (line(custom_id=None), "invalid_custom_id"),
        (line(custom_id=""), "invalid_custom_id"),
        (line(custom_id="x" * 513), "invalid_custom_id"),
        (line(), "duplicate_custom_id"),
        (line(custom_id="b", method="GET"), "invalid_method"),
        (line(custom_id="b", url="/v1/embeddings"), "mismatched_url"),
        (line(custom_id="b", body="Hi"), "invalid_body"),
    ],
)
def test_wrong_line_is_named(wrong: bytes, code: str) -> None:
    assert faults(line(), b"", wrong, line(custom_id="c")) == [(3, code)]


def test_whole_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults() == [(None, "empty_file")]
    assert faults(b"\n\n") == [(None, "empty_file")]
    assert faults(*(line(custom_id=str(n)) for n in range(4)), most=3) == [(None, "too_many_requests")]
    assert len(faults(*([b"x"] * 50))) == lines.MAX_ERRORS
    monkeypatch.setattr(lines, "MAX_CHAT_BYTES", 200)
    assert faults(line(), line(custom_id="b" * 200), line(custom_id="c")) == [(2, "line_too_long")]
