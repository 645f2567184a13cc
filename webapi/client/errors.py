"""Errors: what the API said to a client, or why it did not."""

from typing import Any

import httpx

from worker.jobs.errors import StokerError

__all__ = ["ApiError", "Json", "check"]

Json = dict[str, Any]


class ApiError(StokerError):
    """The API cannot be reached, or refused the request; the message is the problem's detail."""

    code = "api_error"


def check(response: httpx.Response) -> None:
    """Raise `ApiError` with the problem's detail unless the response is a good one."""
    if response.is_success:
        return
    response.read()
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        field = f"{problem['field']}: " if "field" in problem else ""
        raise ApiError(field + str(problem.get("detail") or problem.get("title")))
    url = response.request.url.copy_with(query=None)  # which may hold a token
    raise ApiError(f"{url} answered {response.status_code} {response.reason_phrase}")
