"""Blocking calls beside gevent, whose greenlets share one system thread."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gevent import get_hub
from gevent.monkey import is_module_patched

__all__ = ["call_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


def call_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function, and return its result or raise its error.

    Under gunicorn, a system thread of gevent's pool calls it, so that other clients are served meanwhile. The
    function must not use anything that belongs to gevent, such as connections or the current request.
    """
    if not is_module_patched("threading"):
        return function(*args, **kwargs)
    result: T = get_hub().threadpool.apply(function, args, kwargs)
    return result
