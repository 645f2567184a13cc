"""The error of the API client, and the check of responses that raises it."""

from typing import Any

import httpx

from worker.jobs.errors import StokerError

__all__ = ["ApiError", "Json", "check"]

Json = dict[str, Any]


class ApiError(StokerError):
    """The API cannot be reached, or it refused the request. The message is the problem document's detail."""

    code = "api_error"


def check(response: httpx.Response) -> None:
    """Raise `ApiError` with the problem document's detail unless the response is a success."""
    if response.is_success:
        return
    response.read()
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        field = f"{problem['field']}: " if "field" in problem else ""
        raise ApiError(field + str(problem.get("detail") or problem.get("title")))
    url = response.request.url.copy_with(query=None)  # the query may hold a token
    raise ApiError(f"{url} answered {response.status_code} {response.reason_phrase}")
