"""Listens to a chat engine in tests: what came, in which steps, and when a request had its end."""

import threading
from collections.abc import Callable, Sequence

from worker.chat.engine import ChatEngine, ChatRequest, Delta

#: Seconds within which an engine on a busy machine must have done what a test waits for.
PATIENCE_S = 90


class Recorder:
    """An engine's listener. `hook`, if set, sees each step in the engine's thread."""

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
            assert self._changed.wait_for(condition, PATIENCE_S), f"never came true; seen: {self.steps[-3:]}"

    def run(self, engine: ChatEngine, *requests: ChatRequest) -> "dict[str, list[Delta]]":
        """Submit all, wait for the end of each, and give each request's deltas."""
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
