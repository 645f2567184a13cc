"""Helpers for tests that send requests with OpenAI's client, and answer them as a scripted worker."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, Web
from worker.jobs.events import Event, Succeeded, Token

HI: list[Any] = [{"role": "user", "content": "Hi"}]
USAGE = {
    "prompt_tokens": 8,
    "completion_tokens": 3,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 5},
}
ANSWER = ("Hel", "lo\u2028 ", "žluť 🎉")


@contextmanager
def client_of(web: Web, **options: Any) -> Iterator[OpenAI]:
    """Yield OpenAI's client of the API under test. By default it does not retry."""
    defaults: dict[str, Any] = {
        "base_url": url_of(web),
        "api_key": "none",
        "max_retries": 0,
        "timeout": TIMEOUT_S,
    }
    with OpenAI(**defaults | options) as client:
        yield client


def url_of(web: Web) -> str:
    return str(web.http.base_url).rstrip("/") + "/v1"


@contextmanager
def pending_completion(web: Web, **request: Any) -> Iterator["tuple[str, Future[Any]]"]:
    """Send a completion request in a thread; yield the id of its job, and the future of its answer."""
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(request_completion, client, **request)
        yield new_job(web, future), future


def request_completion(client: OpenAI, **request: Any) -> Any:
    """Request a completion and return it, or the list of its chunks for a stream."""
    answer = client.chat.completions.create(**{"model": "tiny", "messages": HI} | request)
    return list(answer) if request.get("stream") else answer


def new_job(web: Web, future: "Future[Any] | None" = None, owner: str = "") -> str:
    """Wait for a queued job of the owner and return its id.

    Raise the error of `future`, if that fails first.
    """

    def waiting() -> str | None:
        if future is not None and future.done():
            future.result()  # raises the client's error, which says more than a timeout
        return next((record.id for record in web.ledger.page(state="queued", owner=owner)), None)

    return eventually(waiting, "a job", TIMEOUT_S)


def answer_tokens(texts: tuple[str, ...] = ANSWER) -> list[Event]:
    return [Token(text, n, 1) for n, text in enumerate(texts)]


def success_event(texts: tuple[str, ...] = ANSWER, reason: str = "stop") -> Succeeded:
    return Succeeded({"text": "".join(texts), "finish_reason": reason}, USAGE)


def answer(web: Web, job_id: str) -> None:
    """Claim the job, and answer it with the tokens of ANSWER and success."""
    web.worker.claim(job_id)
    success = success_event()
    web.worker.append(job_id, *answer_tokens(), success, usage=success.usage, result=success.result)
