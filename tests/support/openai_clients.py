"""OpenAI's own client against the API under test, and a worker's part of the conversation."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S, Web
from worker.jobs.events import Event, Succeeded, Token

HI: list[Any] = [{"role": "user", "content": "Hi"}]
USAGE = {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}
ANSWER = ("Hel", "lo\u2028 ", "žluť 🎉")


@contextmanager
def client_of(web: Web, **options: Any) -> Iterator[OpenAI]:
    """The official client; by default it tries nothing again."""
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
def asking(web: Web, **request: Any) -> Iterator["tuple[str, Future[Any]]"]:
    """A request of the client that waits for its answer, and the id of its job."""
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, client, **request)
        yield new_job(web, future), future


def ask(client: OpenAI, **request: Any) -> Any:
    """One answer; of a stream all chunks."""
    answer = client.chat.completions.create(**{"model": "tiny", "messages": HI} | request)
    return list(answer) if request.get("stream") else answer


def new_job(web: Web, future: "Future[Any] | None" = None) -> str:
    """The id of the job that waits, as soon as it does."""

    def waiting() -> str | None:
        if future is not None and future.done():
            future.result()  # the client's error is the better story
        return next((record.id for record in web.ledger.page(state="queued")), None)

    return eventually(waiting, "a job", TIMEOUT_S)


def said(texts: tuple[str, ...] = ANSWER) -> list[Event]:
    return [Token(text, n, (n,)) for n, text in enumerate(texts)]


def done(texts: tuple[str, ...] = ANSWER, reason: str = "stop") -> Succeeded:
    return Succeeded({"text": "".join(texts), "finish_reason": reason}, USAGE)


def answer(web: Web, job_id: str) -> None:
    """Say ANSWER, and end."""
    web.worker.claim(job_id)
    ending = done()
    web.worker.append(job_id, *said(), ending, usage=ending.usage, result=ending.result)
