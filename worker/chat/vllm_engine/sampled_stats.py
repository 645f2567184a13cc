"""The scheduler's statistics, at most once a second. EngineCore's process imports this module."""

import time
from typing import Any

from vllm.v1.metrics.stats import PrefixCacheStats, SchedulerStats

__all__ = ["SampledStats"]

#: Seconds between two reports while requests run.
SAMPLE_S = 1.0


class SampledStats:
    """A part of our schedulers that reports the use of vLLM's cache.

    With `disable_log_stats=False` vLLM would send statistics with each step, and note events of each request.
    Only the counts of the prefix cache are kept here, which cost a few additions for each new request. A
    report goes with the outputs of a step: once in `SAMPLE_S` seconds, and when no request is left.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cache: Any = self.kv_cache_manager  # type: ignore[attr-defined]
        cache.log_stats, cache.prefix_cache_stats = True, PrefixCacheStats()
        self._preemptions = 0
        self._next_report = 0.0

    def _preempt_request(self, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(*args, **kwargs)  # type: ignore[misc]
        self._preemptions += 1

    def make_stats(self, *_: Any, **__: Any) -> SchedulerStats | None:
        """Return the statistics since the last report, or None if the next one is not due.

        vLLM has no field for preemptions in them: an event of each request tells it. So `preempted_requests`
        holds their number. vLLM itself counts there the preempted requests that run again.
        """
        now, runs = time.monotonic(), self.running or self.waiting  # type: ignore[attr-defined]
        if runs and now < self._next_report:
            return None
        cache: Any = self.kv_cache_manager  # type: ignore[attr-defined]
        prefixes = cache.make_prefix_cache_stats()
        prefixes.preempted_requests, self._preemptions = self._preemptions, 0
        self._next_report = now + SAMPLE_S
        return SchedulerStats(kv_cache_usage=cache.usage, prefix_cache_stats=prefixes)
