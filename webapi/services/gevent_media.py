"""The media store of the API, whose asynchronous library must work beside gevent."""

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
    """Open the media store that the settings name. Raises `ConfigurationError`.

    Under gunicorn, threads are greenlets of one system thread. An event loop in one of them would count as
    the running loop of all the others, which asyncio forbids. So the loop gets a system thread of its own.
    """
    own_loop = settings.media_url is not None and is_module_patched("threading")
    return open_media_store(settings, _loop_in_a_thread() if own_loop else None)


def _loop_in_a_thread() -> asyncio.AbstractEventLoop:
    """Return an event loop that runs in a new system thread.

    That thread also creates the loop, because the loop's selector belongs to the thread that creates it.
    """
    thread = ThreadPool(1)
    loop: asyncio.AbstractEventLoop = thread.apply(_Loop)
    thread.spawn(loop.run_forever)
    return loop


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that runs blocking functions in gevent's pool of system threads.

    The threads of an executor would be greenlets of this loop's thread, and the main thread would wait for
    them at exit.
    """

    def run_in_executor(  # type: ignore[override]  # it knows no executors
        self, executor: None, function: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Return a future of the function's result. asyncio uses this mostly for name lookups."""
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
