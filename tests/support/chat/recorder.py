"""Records the deltas that a chat engine reports, step by step."""

import threading
from collections.abc import Callable, Sequence

from worker.chat.engine import ChatEngine, ChatRequest, Delta

#: Seconds that a test waits for the next step of an engine, also on a busy machine.
PATIENCE_S = 90


class Recorder:
    """A listener that records all steps of an engine.

    If `hook` is set, the engine's thread calls it with each step.
    """

    def __init__(self) -> None:
        self.steps: list[list[Delta]] = []
        self.threads: set[int] = set()
        self.broken: list[BaseException] = []
        self.hook: Callable[[Sequence[Delta]], None] | None = None
        self._changed = threading.Condition()

    def on_step(self, deltas: Sequence[Delta]) -> None:
        with self._changed:
            self.steps.append(list(deltas))
            self.threads.add(threading.get_ident())
            self._changed.notify_all()
        if self.hook is not None:
            self.hook(deltas)

    def on_broken(self, error: BaseException) -> None:
        with self._changed:
            self.broken.append(error)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            while not condition():
                assert self._changed.wait(PATIENCE_S), f"timed out; the last steps: {self.steps[-3:]}"

    def run_requests(self, engine: ChatEngine, *requests: ChatRequest) -> "dict[str, list[Delta]]":
        """Submit all requests, wait for the end of each, and return the deltas of each request."""
        self.steps.clear()
        for request in requests:
            engine.submit(request)
        self.wait_for(lambda: all(self.ends(request.id) for request in requests))
        return {request.id: self.deltas(request.id) for request in requests}

    def deltas(self, request_id: str) -> list[Delta]:
        return [delta for step in self.steps for delta in step if delta.id == request_id]

    def ends(self, request_id: str) -> list[Delta]:
        return [delta for delta in self.deltas(request_id) if delta.finish_reason is not None]

    def text(self, request_id: str) -> str:
        return "".join(delta.text for delta in self.deltas(request_id))

    def ids(self, request_id: str) -> tuple[int, ...]:
        return tuple(token for delta in self.deltas(request_id) for token in delta.token_ids)
