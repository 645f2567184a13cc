"""The error of the API client, and the checks of responses that raise it."""

import json
from typing import Any

import httpx

from worker.jobs.errors import StokerError

__all__ = ["ApiError", "Json", "check", "json_object"]

Json = dict[str, Any]


class ApiError(StokerError):
    """The API cannot be reached, or it refused the request. The message is the problem document's detail."""

    code = "api_error"


def check(response: httpx.Response) -> None:
    """Raise `ApiError` with the problem document's detail unless the response is a success."""
    if response.is_success:
        return
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = json_object(response.read())
        field = f"{problem['field']}: " if "field" in problem else ""
        raise ApiError(field + str(problem.get("detail") or problem.get("title")))
    url = response.request.url.copy_with(query=None)  # the query may hold a token
    raise ApiError(f"{url} answered {response.status_code} {response.reason_phrase}")


def json_object(text: str | bytes) -> Json:
    """Return the JSON object in the text. Raises `ApiError` if there is none, so the server is not Stoker."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError("the server answers with something else than a JSON object: is it Stoker's API?")
    return found
