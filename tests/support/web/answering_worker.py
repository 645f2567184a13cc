"""A worker that answers chats by itself, in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.web.webstack import TIMEOUT_S, Web
from worker.jobs.errors import JobNotFound
from worker.jobs.events import Failed, Succeeded, Token

__all__ = ["answering"]

POLL_S = 0.01
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@contextmanager
def answering(web: Web, owner: str = "") -> Iterator[dict[str, int]]:
    """Answer each chat with its prompt or last message. A chat `fail` fails. Yield how often each was run."""
    runs: dict[str, int] = {}
    stop = threading.Event()

    def answer(job_id: str) -> None:
        web.worker.claim(job_id)
        spec = web.ledger.get(job_id).spec.model_dump()
        text = str(spec["prompt"] or spec["messages"][-1]["content"])
        runs[text] = runs.get(text, 0) + 1
        if text == "fail":
            error = {"code": "engine_failed", "message": "it broke"}
            web.worker.append(job_id, Failed(**error), error=error)
            return
        result = {"text": text.upper(), "finish_reason": "stop"}
        steps = Token(text.upper(), 0, 1), Succeeded(result, USAGE)
        web.worker.append(job_id, *steps, result=result, usage=USAGE)

    def work() -> None:
        while not stop.wait(POLL_S):
            for record in web.ledger.page(state="queued", limit=100, owner=owner):
                try:
                    answer(record.id)
                except (JobNotFound, AssertionError):  # it was canceled or deleted just now
                    continue

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield runs
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
