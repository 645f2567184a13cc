"""The two formats of log lines: text for people, and JSON for programs."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from worker.jobs.logs import context, errors
from worker.jobs.logs.facts import Facts, facts_of
from worker.jobs.logs.printed import LOGGERS
from worker.jobs.logs.redaction import Redactor
from worker.jobs.records import rfc3339

__all__ = ["JsonLines", "TextLines", "message_of"]

#: Characters that could end a line, or change what a terminal shows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: The parts of a line of the text format that are the same for all lines of a process.
_TEXT_LINE = re.compile(r"\S+Z [A-Z]+ [\w.]+: (.*?)(?: (?:worker|request_id)=\S+)*")
#: Values that need no quotes in the text format.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
#: The line with which a traceback that a library prints ends. The text of the exception may quote a client.
_PRINTED_ERROR = re.compile(r"(?m)^((?:\w+\.)*\w*(?:Error|Exception|Group|Warning|Interrupt)): .*")


class _Lines(logging.Formatter):
    """The base of both formats."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of the record, without a line break. A value without a text costs only the line."""
        fields = {**context.current(), **facts_of(record)}
        error = record.exc_info[1] if record.exc_info else None
        try:
            return self._line(record, self._message(record, error), fields, error)
        except Exception as failure:  # the caller may have a job to end
            place = {"place": f"{record.filename}:{record.lineno}", **context.current()}
            return self._line(record, "this line cannot be written", place, failure)

    def _line(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], error: BaseException | None
    ) -> str:
        raise NotImplementedError

    def _message(self, record: logging.LogRecord, error: BaseException | None) -> str:
        """Return the message, with the errors in it described, and without the text of a private error."""
        args: Any = record.args
        if isinstance(args, tuple):
            args = tuple(map(_described, args))
        elif isinstance(args, Mapping):
            args = {name: _described(value) for name, value in args.items()}
        text = str(_described(record.msg))
        try:
            text = text % args if args else text
        except Exception:  # a mistake in the call must not cost the line, nor print the arguments
            text = f"{text} (its arguments do not fit)"
        for each in errors.chain(error) if error else ():
            if errors.is_private(each):
                for quoted in errors.quotes(each):
                    text = text.replace(quoted, type(each).__name__)
        return self._redact(_PRINTED_ERROR.sub(r"\1", text) if record.name in LOGGERS else text)


class TextLines(_Lines):
    """Lines such as `2026-01-31T12:00:00.000Z INFO worker.lane.lane: started job=… attempt=1 worker=…`."""

    def _line(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], error: BaseException | None
    ) -> str:
        if error:
            fields["exception"] = self._redact(errors.compact(error))
        parts = [message.strip(), *(f"{name}={_text(value)}" for name, value in fields.items())]
        line = f"{rfc3339(record.created)} {record.levelname} {record.name}: {' '.join(parts)}"
        return _CONTROL.sub(_escaped, line)


class JsonLines(_Lines):
    """Lines that are JSON objects, in ASCII."""

    def _line(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], error: BaseException | None
    ) -> str:
        line = {"time": rfc3339(record.created), "level": record.levelname, "logger": record.name}
        if isinstance(record.msg, Facts):
            line["message"] = record.msg.name
            fields = fields | {name: value for name, value in record.msg.items.items() if name not in line}
        else:
            line["message"] = message
        if error:
            fields["exception"] = self._redact(errors.multiline(error))
        return json.dumps(line | fields, default=str, allow_nan=False)


def _described(value: object) -> object:
    return errors.describe(value) if isinstance(value, BaseException) else value


def _text(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def message_of(line: str) -> str:
    """Return the message of a log line, without the time and the process; any other line as it is."""
    if found := _TEXT_LINE.fullmatch(line):
        return found[1]
    try:
        return str(json.loads(line)["message"])
    except (ValueError, TypeError, KeyError):
        return line
