"""The reports of a clip's batches, in the order of the clip, whoever has computed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from worker.video.request import BatchDone
from worker.video.share_plan import ClipPlan

__all__ = ["Reports"]


class Reports:
    """Passes each report on when all batches before it are reported.

    The first `done` frames of the clip have been reported by earlier attempts. Those whose segments are not
    here, for example because another release has made them, are computed again. They are not reported again.
    """

    def __init__(self, plan: ClipPlan, done: int, on_batch: Callable[[BatchDone], None]) -> None:
        self._plan = plan
        self._done = done
        self._on_batch = on_batch
        self._waiting: dict[int, list[BatchDone]] = {}
        #: The first segment whose reports have not all been added.
        self.first = 0

    def add(self, number: int, batches: Iterable[BatchDone]) -> None:
        """Add the next reports of a segment, and pass on those that are due."""
        self._waiting.setdefault(number, []).extend(batches)
        while self.first < self._plan.count and (ended := self._pass_on(self.first)):
            self.first += ended

    def _pass_on(self, number: int) -> bool:
        """Pass on the new reports of a segment. Return whether all of its reports have been added."""
        _, end = self._plan.span(number)
        batches = self._waiting.get(number, [])
        for batch in batches:
            if batch.done > self._done:
                self._done = batch.done
                self._on_batch(batch)
        if not any(batch.done >= end for batch in batches):
            return False
        del self._waiting[number]
        return True
