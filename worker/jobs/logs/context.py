"""The subject of the log lines of a thread: a request, or a job with its attempt and worker."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["about", "begin", "current", "set_worker"]


def _thread() -> threading.local:
    """Return what holds the fields of this thread; under gevent, of this greenlet.

    A thread that a request starts serves others too. So it must not inherit the fields, as it would inherit
    a context variable. gunicorn imports this module before gevent patches the class.
    """
    global _local
    if type(_local) is not threading.local:
        _local = threading.local()
    return _local


_local = threading.local()
#: The fields of all lines of this process.
_process: dict[str, object] = {}


def set_worker(name: str) -> None:
    """Give all lines of this process the name of its worker."""
    _process["worker"] = name


def begin(**fields: object) -> None:
    """Give all further lines of this thread these fields, in place of those that it had."""
    _thread().fields = fields


def current() -> dict[str, object]:
    """Return the fields of this thread's lines."""
    return {**_process, **_fields()}


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Give the lines of this thread these fields, too, until the block ends. None is left out."""
    before = _fields()
    _thread().fields = {**before, **{name: value for name, value in fields.items() if value is not None}}
    try:
        yield
    finally:
        _thread().fields = before


def _fields() -> Mapping[str, object]:
    return getattr(_thread(), "fields", {})
