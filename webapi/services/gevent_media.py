"""The API's media store: what an asynchronous library needs beside gevent."""

import asyncio
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.event import AsyncResult
from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

from worker.jobs.media.files import Media
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings

__all__ = ["open_media"]


def open_media(settings: Settings) -> Media:
    """The media store that the settings name. Raises `ConfigurationError`.

    Under gunicorn threads are greenlets. A loop in one of them would count as the running loop of all the
    others, which asyncio forbids: so it gets a thread of the system's.
    """
    own_loop = settings.media_url is not None and is_module_patched("threading")
    return open_media_store(settings, _loop_in_a_thread() if own_loop else None)


def _loop_in_a_thread() -> asyncio.AbstractEventLoop:
    """Made there too, for its selector belongs to the thread that makes it."""
    thread = ThreadPool(1)
    loop: asyncio.AbstractEventLoop = thread.apply(_Loop)
    thread.spawn(loop.run_forever)
    return loop


class _Loop(asyncio.SelectorEventLoop):
    """Has others wait in the system's threads.

    An executor's would be greenlets of this loop's thread, for which the main one would wait in the end.
    """

    def run_in_executor(  # type: ignore[override]  # there are no executors here
        self, executor: None, function: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """What the function returns or raises; to look up names, above all."""
        future = self.create_future()
        get_hub().threadpool.spawn(function, *args).rawlink(
            lambda result: self.call_soon_threadsafe(_settle, future, result)
        )
        return future


def _settle(future: "asyncio.Future[Any]", result: "AsyncResult[Any]") -> None:
    if future.cancelled():
        return
    if result.exception is None:
        future.set_result(result.value)
    else:
        future.set_exception(result.exception)
