"""The HTTP connections of a client to one API."""

import re
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from webapi.client.errors import ApiError, ApiUnavailable
from worker.jobs.loopback import is_loopback

__all__ = ["connect", "job_path", "retry"]

T = TypeVar("T")


def connect(url: str, api_key: str | None, timeout_s: float) -> httpx.Client:
    """Return a client of the API at `url`. It asks no proxy for an address of this machine.

    Raises `ApiError` if the URL or the key cannot be those of an API, or if the proxy cannot be used.
    """
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        target = httpx.URL("")
    if target.scheme not in ("http", "https") or not target.host:
        raise ApiError(f"{url} is not the URL of an API: it must look like http://127.0.0.1:8000")
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ApiError("the API key has characters that no key has: use the text of `stoker keys create`")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    transport = httpx.HTTPTransport(proxy=_proxy(target))
    return httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)


def job_path(job_id: str, *part: str) -> str:
    """Return the path of the job, or of a part of it. Raises `ApiError` if this is not the id of a job."""
    if not re.fullmatch("[0-9A-Za-z_-]+", job_id):  # it could lead to another path
        raise ApiError(f"there is no job {job_id}")
    return "/".join(("/v1/jobs", job_id, *part))


def _proxy(target: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment names for the target, or None.

    httpx reads these variables, too, but it ends with an error at some forms of hosts in `NO_PROXY`, such as
    `[::1]`. Raises `ApiError` if the proxy cannot be used.
    """
    if is_loopback(target.host) or any(map(proxy_bypass, (target.host, target.netloc.decode()))):
        return None
    proxies = getproxies()
    url = proxies.get(target.scheme) or proxies.get("all")
    if not url:
        return None
    if url.startswith("socks") and not find_spec("socksio"):
        raise ApiError("the proxy is one for SOCKS, which needs another package: pip install 'httpx[socks]'")
    try:
        return httpx.Proxy(url if "://" in url else f"http://{url}")
    except (httpx.InvalidURL, ValueError) as error:  # not the URL itself, which may hold a password
        raise ApiError("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not the URL of a proxy") from error


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
