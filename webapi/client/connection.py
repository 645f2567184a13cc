"""The HTTP connections of a client to one API."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import httpx

from webapi.client.errors import ApiError, ApiUnavailable
from worker.jobs.loopback import is_loopback

__all__ = ["connect", "retry"]

T = TypeVar("T")


def connect(url: str, api_key: str | None, timeout_s: float) -> httpx.Client:
    """Return a client of the API at `url`. It asks no proxy for an address of this machine.

    Raises `ApiError` if the URL or the key cannot be those of an API.
    """
    try:
        host = httpx.URL(url).host if url.startswith(("http://", "https://")) else ""
    except httpx.InvalidURL:
        host = ""
    if not host:
        raise ApiError(f"{url} is not the URL of an API: it must look like http://127.0.0.1:8000")
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ApiError("the API key has characters that no key has: use the text of `stoker keys create`")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    transport = httpx.HTTPTransport() if is_loopback(host) else None  # None: as HTTP_PROXY and others say
    return httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)


def retry(attempt: Callable[[], T], waits_s: Sequence[float]) -> T:
    """Return the result of `attempt`. While the API is away, repeat it after each of the waits, in seconds.

    Raises `ApiUnavailable` if the API is still away after all waits.
    """
    for wait_s in waits_s:
        try:
            return attempt()
        except ApiUnavailable:
            time.sleep(wait_s)
    return attempt()
