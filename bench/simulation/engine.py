"""The engine of a worker: chats that share its steps."""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from simpy import Environment, Event

__all__ = ["Engine", "Lost"]


class Lost(NamedTuple):
    """The end of a chat whose worker has died: the tokens that are left, and when recovery takes the chat."""

    tokens: float
    lapses_at: float


class Engine:
    """Runs chats at once. Each of them gets one token per step, and a step takes longer with more chats.

    `steps` are the seconds of a step with 0, 1, … chats. `done` is the number of tokens that a chat
    would have which has been running since the start. So a chat ends when `done` has grown by its tokens.
    """

    def __init__(self, env: Environment, steps: Sequence[float]) -> None:
        self._env = env
        self._steps = steps
        self._done = 0.0
        self._at = 0.0
        self._chats: list[tuple[float, int, Event]] = []
        self._numbers = count()
        self._version = 0
        #: Integrals over time: seconds with a chat, and seconds of chats.
        self.busy_s = self.chat_s = 0.0

    @property
    def running(self) -> int:
        """The number of chats."""
        return len(self._chats)

    @property
    def step_s(self) -> float:
        """The seconds of a step now."""
        return self._steps[len(self._chats)]

    @property
    def next_step_s(self) -> float:
        """The seconds of a step with one more chat."""
        return self._steps[min(len(self._chats) + 1, len(self._steps) - 1)]

    def join(self, tokens: float) -> Event:
        """Start a chat. The event comes with its last token, or with `Lost` when the engine dies."""
        self.advance()
        ended = self._env.event()
        heapq.heappush(self._chats, (self._done + tokens, next(self._numbers), ended))
        self._wait()
        return ended

    def die(self, lapses_at: float) -> None:
        """Lose all chats. Recovery takes them at `lapses_at`."""
        self.advance()
        self._version += 1
        lost, self._chats = self._chats, []
        for until, _, ended in lost:
            ended.succeed(Lost(max(1.0, until - self._done), lapses_at))

    def advance(self) -> None:
        """Bring the integrals and the tokens up to now."""
        passed, self._at = self._env.now - self._at, self._env.now
        if self._chats:
            self._done += passed / self.step_s
            self.busy_s += passed
            self.chat_s += passed * len(self._chats)

    def _wait(self) -> None:
        """Wait for the next end of a chat, as things are now."""
        self._version += 1
        if not self._chats:
            return
        version, left = self._version, self._chats[0][0] - self._done
        timeout = self._env.timeout(max(0.0, left * self.step_s))
        timeout.callbacks.append(lambda _: self._end_first(version))

    def _end_first(self, version: int) -> None:
        if version == self._version:  # else the number of chats has changed since
            self.advance()
            _, _, ended = heapq.heappop(self._chats)
            ended.succeed()
            self._wait()
