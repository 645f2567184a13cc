"""Admission: when those who wait join the requests that run, alone or together."""

import time
from collections.abc import Callable

#: A step that takes prompts in is slow for everybody: where requests come one by one, nearly every step is.
#: vLLM 0.24 on an H200 with a small model, 256 at once: 9.8 ms a step instead of 5.1. So many join anyhow,
#: and so many seconds is the most that one waits for company.
FEW, TOGETHER_S = 16, 0.04
#: A group that is so large a part of those that run waits for no more.
PART = 1 / 4


class Admission:
    """Groups the requests that join a busy engine.

    As `max_waiting_tokens` and `waiting_served_ratio` in Hugging Face's Text Generation Inference, but in
    seconds, because a step of a large model takes as long as some of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._joined_at = float("-inf")

    def wait_s(self, waiting: int, running: int) -> float:
        """How long those who wait still do, beside so many that run; 0: they join now."""
        if running < FEW or waiting >= PART * running:
            return 0.0
        return max(0.0, self._joined_at + TOGETHER_S - self._clock())

    def join(self) -> None:
        """Those who waited have joined."""
        self._joined_at = self._clock()
