"""The error of the API client, and the checks of responses that raise it."""

import json
import re
from typing import Any

import httpx

from worker.jobs.errors import StokerError

__all__ = ["ApiError", "ApiUnavailable", "Json", "check", "json_object", "unavailable"]

Json = dict[str, Any]


class ApiError(StokerError):
    """The API cannot be reached, or it refused the request. The message is that of the API."""

    code = "api_error"


class ApiUnavailable(ApiError):
    """The API cannot be reached, or it cannot answer for the moment: it may be starting again."""


def check(response: httpx.Response) -> None:
    """Raise `ApiError` with the API's message unless the response is a success."""
    if response.is_success:
        return
    kind = ApiUnavailable if response.status_code > httpx.codes.INTERNAL_SERVER_ERROR else ApiError
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = json_object(response.read())
        field = f"{problem['field']}: " if "field" in problem else ""
        raise kind(field + str(problem.get("detail") or problem.get("title")))
    if response.headers.get("content-type", "").startswith("application/json"):
        error = json_object(response.read()).get("error")  # the form of OpenAI's API
        if isinstance(error, dict) and "message" in error:
            raise kind(str(error["message"]))
    url = response.request.url.copy_with(query=None)  # the query may hold a token
    raise kind(f"{url} answered {response.status_code} {response.reason_phrase}")


def unavailable(url: str, error: httpx.RequestError) -> ApiUnavailable:
    """Return the error for a request to the API at `url` that got no response."""
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        what = f"there is no API at {url} ({reason}): start it with `stoker up`, or set STOKER_URL"
        return ApiUnavailable(what)
    return ApiUnavailable(f"the API at {url} does not answer: {reason}")


def json_object(text: str | bytes) -> Json:
    """Return the JSON object in the text. Raises `ApiError` if there is none, so the server is not Stoker."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError("the server answers with something else than a JSON object: is it Stoker's API?")
    return found
