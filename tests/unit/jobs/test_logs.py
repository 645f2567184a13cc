"""Log lines: their two formats, what they are about, and what is left out of them."""

import io
import json
import logging
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.local
import pytest
from pydantic import BaseModel
from redis.exceptions import AuthenticationError

from worker.jobs.errors import EngineFailed, MediaUnavailable, StokerError
from worker.jobs.logs import context
from worker.jobs.logs.facts import Facts, facts, of_job
from worker.jobs.logs.formats import JsonLines, TextLines, message_of
from worker.jobs.logs.printed import Printed
from worker.jobs.logs.redaction import Redactor, secrets_of
from worker.jobs.logs.setup import configure
from worker.jobs.settings import Settings

PROMPT = "my PIN is 1234"


@dataclass
class Attempt:
    id: str = "j1"
    attempt: int = 2
    worker: str | None = "chat-h-1"
    trace: str | None = f"00-{'a' * 32}-{'b' * 16}-01"


class Lines(logging.Handler):
    """A handler that keeps each line in both formats. It formats them in the thread that logs them."""

    def __init__(self, redact: Redactor | None = None) -> None:
        super().__init__()
        self.formats = [TextLines(redact or Redactor()), JsonLines(redact or Redactor())]
        self.texts: list[str] = []
        self.objects: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text, line = (each.format(record) for each in self.formats)
        assert len((text + line).splitlines()) == 1
        self.texts.append(text)
        self.objects.append(json.loads(line))


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    log.addHandler(lines)
    yield lines
    log.removeHandler(lines)
    context.begin()


log = logging.getLogger("worker.test")
log.setLevel(logging.DEBUG)


def test_lines_have_time_level_logger_message_and_facts(lines: Lines) -> None:
    with context.about(**of_job(Attempt())):
        log.info("ended after %d s", 3, extra=facts(state="failed", tokens=0, code=None))
    [text], [line] = lines.texts, lines.objects
    time = line.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    known = {
        "job": "j1",
        "attempt": 2,
        "worker": "chat-h-1",
        "trace": "a" * 32,
        "state": "failed",
        "tokens": 0,
    }
    assert line == {"level": "INFO", "logger": "worker.test", "message": "ended after 3 s", **known}
    shown = " ".join(f"{name}={value}" for name, value in known.items())
    assert text == f"{time} INFO worker.test: ended after 3 s {shown}"


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [
        ("100 %", (), "100 %"),
        ("%s", ("é 漢 😀 \udc80",), "é 漢 😀 \udc80"),
        ({"a": 1}, (), "{'a': 1}"),
        (None, (), "None"),
        ("%d jobs", ("many",), "%d jobs (its arguments do not fit)"),
        ("%s and %s", ("one",), "%s and %s (its arguments do not fit)"),
        ("%(name)s", ({"name": "x"},), "x"),
        ("%s", (MediaUnavailable("away"),), "away"),
        (ValueError(PROMPT), (), "ValueError (its text is left out)"),
    ],
)
def test_lines_have_every_kind_of_message(lines: Lines, message: Any, args: Any, shown: str) -> None:
    lines.handle(log.makeRecord(log.name, logging.WARNING, __file__, 1, message, args, None))
    assert lines.objects[0]["message"] == shown
    assert lines.texts[0].endswith(f" WARNING worker.test: {shown}")


def test_lines_cannot_be_forged(lines: Lines) -> None:
    log.info("one\n2026-01-01T00:00:00.000Z two\r\x1b[2J\x85\u2028.", extra=facts(path='/a b\n="c'))
    assert lines.objects[0]["path"] == '/a b\n="c'
    message = r"one\n2026-01-01T00:00:00.000Z two\r\x1b[2J\x85\u2028."
    assert lines.texts[0].partition("worker.test: ")[2] == rf'{message} path="/a b\n=\"c"'


def failing(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_lines_have_an_exception_as_one_field(lines: Lines) -> None:
    try:
        failing(StokerError("the disk hangs"), KeyError(PROMPT))
    except StokerError:
        log.exception("it fails")
    trace = lines.objects[0]["exception"]
    assert trace.startswith("Traceback (most recent call last):\n")
    assert re.search(r'  File ".*test_logs.py", line \d+, in failing\nStokerError: the disk hangs$', trace)
    assert "KeyError (its text is left out)\n" in trace
    shown = lines.texts[0].partition("it fails ")[2]
    assert re.fullmatch(
        r'exception="StokerError: the disk hangs at test_logs\.py:\d+ failing < test_logs\.py:\d+ \w+; '
        r'because of KeyError \(its text is left out\) at no place"',
        shown,
    )


def test_lines_have_the_members_of_a_group_of_errors(lines: Lines) -> None:
    full = [OSError(28, "No space left on device"), KeyError(PROMPT)]
    try:
        failing(ExceptionGroup(PROMPT, full))
    except ExceptionGroup:
        log.exception("it fails")
    shown = lines.texts[0].partition("it fails ")[2]
    members = (
        r"\[Errno 28\] No space left on device at no place; because of KeyError \(its text is left out\)"
    )
    assert re.search(rf"ExceptionGroup \(its text is left out\) at .*; because of OSError: {members}", shown)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError(PROMPT)


def test_lines_have_the_places_of_an_error_that_has_no_text(lines: Lines) -> None:
    try:
        failing(Mute())
    except Mute as error:
        info = Mute, error, error.__traceback__
        lines.handle(log.makeRecord(log.name, logging.ERROR, __file__, 1, "it fails: %s", (error,), info))
    assert lines.objects[0]["message"] == "it fails: Mute (its text is left out)"
    assert "in failing\nMute (its text is left out)" in lines.objects[0]["exception"]


def test_a_value_that_has_no_text_does_not_stop_the_caller(lines: Lines) -> None:
    log.info("the disk is full", extra=facts(path=Mute()))
    assert lines.objects[0]["message"] == "this line cannot be written"
    assert re.fullmatch(r"test_logs\.py:\d+", lines.objects[0]["place"])


def test_json_lines_have_no_numbers_that_json_does_not_have() -> None:
    record = log.makeRecord(log.name, logging.INFO, __file__, 1, "x", (), None, extra=facts(share=math.nan))
    json.loads(JsonLines(Redactor()).format(record), parse_constant=pytest.fail)


def test_lines_keep_the_words_that_a_short_private_text_is_part_of(lines: Lines) -> None:
    try:
        failing(ValueError(1))
    except ValueError:
        log.exception("try 1 of 10")
    assert lines.objects[0]["message"] == "try 1 of 10"


#: Its folder goes away, so that no new file can be opened.
MOVED = """
import logging, sys
from pathlib import Path
from worker.jobs.logs.handler import LineHandler
folder = Path(sys.argv[1])
handler = LineHandler(folder / "x.log")
handler.emit(logging.makeLogRecord({"msg": "one"}))
folder.rename(folder.with_name("moved"))
handler.emit(logging.makeLogRecord({"msg": "two"}))
"""


def test_lines_stay_in_the_renamed_file_if_no_new_one_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    subprocess.run([sys.executable, "-c", MOVED, str(tmp_path / "logs")], check=True)
    assert (tmp_path / "moved" / "x.log").read_text() == "one\ntwo\n"


def test_a_log_file_that_cannot_be_opened_ends_the_process_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with pytest.raises(SystemExit, match=r"^stoker: STOKER_LOG_FILE: /.*/x\.log: No such file"):
        configure(Settings(log_file=tmp_path / "no" / "x.log"))


class Body(BaseModel):
    number: int


def refused() -> Exception:
    try:
        Body.model_validate({"number": PROMPT})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("make", "private"),
    [
        (refused, True),
        (lambda: RuntimeError(PROMPT), True),
        (lambda: EngineFailed(PROMPT), True),
        (lambda: KeyError(PROMPT), True),
        (lambda: OSError(28, "No space left on device"), False),
        (lambda: AuthenticationError("WRONGPASS"), False),
        (lambda: StokerError("no"), False),
    ],
)
def test_lines_leave_out_texts_of_errors_that_may_quote_a_client(
    lines: Lines, make: Callable[[], Exception], private: bool
) -> None:
    error = make()
    try:
        raise error
    except Exception as caught:
        log.exception("a %s b", error)
        log.exception(f"a {caught} b {caught!r}")  # as many libraries do it
    assert (PROMPT in str(lines.texts + lines.objects)) is False
    assert (str(error) in lines.objects[0]["message"]) is not private
    assert (str(error) in lines.objects[0]["exception"]) is not private


def test_lines_of_objects_have_their_items_as_fields(lines: Lines) -> None:
    log.info(Facts("job_submitted", {"time": "t", "action": "job_submitted", "name": "é"}))
    assert lines.texts[0].endswith(r': {"time": "t", "action": "job_submitted", "name": "\u00e9"}')
    line = lines.objects[0]
    assert (line["message"], line["action"], line["name"]) == ("job_submitted", "job_submitted", "é")
    assert line["time"] != "t"


def test_context_belongs_to_its_block_and_its_thread(lines: Lines) -> None:
    context.begin(request_id="r1")
    with context.about(job="j1", attempt=None):
        with context.about(job="j2"):
            log.info("inner")
        log.info("outer")
        other = threading.Thread(target=log.info, args=["other"])
        other.start()
        other.join()
    log.info("after")
    context.begin(request_id="r2")
    log.info("next")
    found = [(line["message"], line.get("request_id"), line.get("job")) for line in lines.objects]
    assert found == [
        ("inner", "r1", "j2"),
        ("outer", "r1", "j1"),
        ("other", None, None),
        ("after", "r1", None),
        ("next", "r2", None),
    ]


def test_context_belongs_to_its_greenlet_if_gevent_patches_after_the_import(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "local", gevent.local.local)

    def serve(request_id: str) -> None:
        context.begin(request_id=request_id)
        gevent.sleep(0)  # the other one begins
        log.info(request_id)

    gevent.joinall([gevent.spawn(serve, "r1"), gevent.spawn(serve, "r2")], raise_error=True)
    log.info("outside")
    found = [(line["message"], line.get("request_id")) for line in lines.objects]
    assert found == [("r1", "r1"), ("r2", "r2"), ("outside", None)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pa55@h:6379/0 is away", "redis://***@h:6379/0 is away"),
        ("sentinel://:pa55@h:1;sentinel://:pa55@i:1", "sentinel://***@h:1;sentinel://***@i:1"),
        ("POST https://h/hook/x?a=b&token=c failed", "POST https://h/hook/x?*** failed"),
        (
            "GET /v1/jobs/j/events?after=3&token=abc HTTP/1.1",
            "GET /v1/jobs/j/events?after=3&token=*** HTTP/1.1",
        ),
        ("sk-stoker-0123456789ab-" + "x" * 49, "sk-stoker-0123456789ab-***"),
        ("whsec_MfKQ9r8GKYqrTwjU", "whsec_***"),
        ("sk-proj-abcdefghijkl", "sk-***"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: ***"),
        ("{'Authorization': 'AWS4-HMAC-SHA256 Credential=AK, Signature=ff'}", "{'Authorization': '***'}"),
        ("[(b'Set-Cookie', b'id=1234')]", "[(b'Set-Cookie', b'***')]"),
        ("the token is Bearer abcdefghijkl", "the token is Bearer ***"),
        (  # OpenTelemetry, about OTEL_EXPORTER_OTLP_HEADERS
            "Header format invalid! … a comma separated list of name=value occurrences: api-key abcdefghijkl",
            "Header format invalid! … a comma separated list of name=value occurrences: ***",
        ),
        (
            "unknown command 'X', with args beginning with: 'a' 'b'",
            "unknown command 'X', with args beginning with: ***",
        ),
        (
            "https://h/docs: see sk and basic facts at http://h:1/a",
            "https://h/docs: see sk and basic facts at http://h:1/a",
        ),
    ],
)
def test_redactor_finds_secrets_by_their_form(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


def test_redactor_finds_the_secrets_of_the_settings() -> None:
    settings = Settings(redis_url="redis://u:pa%2Fss1@h/0", media_url="s3://b?key=pass3", api_key="pass4")
    redact = Redactor(secrets_of(settings.replace(redis_password="pass two")))
    shown = redact("pa/ss1, pa%2Fss1, pass two, pass%20two, pass3, pass4")
    assert shown == "***, ***, ***, ***, ***, ***"


def test_printed_lines_are_logged(lines: Lines) -> None:
    stream = Printed(log, logging.WARNING, 2)
    print("one\ntwo", end="", file=stream)
    print(" and a half\n\n10 %\r20 %", file=stream)
    with pytest.raises(io.UnsupportedOperation):
        stream.read()
    assert [line["message"] for line in lines.objects] == ["one", "two and a half", "20 %"]


def test_printed_tracebacks_lose_the_texts_of_their_errors() -> None:
    lines, printed = Lines(), logging.getLogger("stderr")
    printed.addHandler(lines)
    print(
        f"  File x\npydantic_core.ValidationError: {PROMPT}\nno error: {PROMPT[:2]}",
        file=Printed(printed, 30, 2),
    )
    printed.removeHandler(lines)
    shown = ["  File x", "pydantic_core.ValidationError", "no error: my"]
    assert [line["message"] for line in lines.objects] == shown


def test_message_of_is_the_same_for_each_process(lines: Lines) -> None:
    for name in ("chat-h-1-ab", "chat-h-2-cd"):
        with context.about(worker=name):
            log.error("stoker: /m has no chat template")
    found = {message_of(line) for line in (*lines.texts, *map(json.dumps, lines.objects))}
    assert found == {"stoker: /m has no chat template"}
    assert [message_of(line) for line in ("up", "{}", "", "[1]")] == ["up", "{}", "", "[1]"]
