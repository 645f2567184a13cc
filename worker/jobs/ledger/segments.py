"""The segments of running videos, which several workers may compute."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from worker.jobs.ledger.store import RedisStore

__all__ = ["HelpWanted", "SegmentPlan", "Segments", "Taken"]


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """The offer of a job's owner: `count` segments, numbered from 0, and a `text` that explains them."""

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The reply to the owner: a segment to compute, or None if none is free, and those that are done."""

    number: int | None
    done: Collection[int]


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """The reply to an idle worker: a segment of another worker's job. `plan` is the owner's text."""

    job_id: str
    claim: str
    number: int
    plan: str


class Segments:
    """The segments that owners of running videos offer, and who computes each of them.

    The owner is the attempt that runs the job, known by the name of its claim. An offer ends with the
    attempt. All methods may be repeated after an error. They raise `redis.exceptions.RedisError` if Redis
    cannot be reached.

    No result depends on these calls. If Redis forgets some of them, a segment is computed twice.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._scripts = store.scripts

    def take(
        self,
        job_id: str,
        claim: str,
        worker: str,
        plan: SegmentPlan,
        *,
        first: int = 0,
        held: Collection[int] = (),
        steal: bool = False,
    ) -> Taken | None:
        """Give the owner the lowest free segment. Return None if its attempt is over.

        The first call offers the segments to other workers. `first` is the first segment whose events are not
        logged, and `held` are those from there on that the owner computes or has. A segment is free again
        when the lease of its worker has ended. With `steal` the owner also gets one whose worker holds its
        lease but may hang, if no other is free.
        """
        args = claim, worker, plan.text, plan.count, first, "1" if steal else "", *held
        reply = self._scripts.eval("take_segment", *self._store.common_args(job_id), *args)
        if reply is None:
            return None
        number, *finished = cast("list[int]", reply)
        return Taken(None if number < 0 else number, sorted(finished))

    def are_offered(self, queue: str) -> bool:
        """Return whether a job of the queue offers segments. This is cheaper than `help`."""
        return bool(self._store.client.exists(self._store.key("queue", queue, "offered")))

    def is_offered(self, job_id: str, claim: str) -> bool:
        """Return whether this attempt runs and offers segments."""
        return self._store.client.hget(f"{self._store.channel(job_id)}:segments", "claim") == claim

    def help(
        self,
        queue: str,
        worker: str,
        job_id: str = "",
        held: Collection[int] = (),
        refused: Collection[str] = (),
    ) -> HelpWanted | None:
        """Give an idle worker a segment of a job in the queue, or of this job.

        Return None if there is none, if a job waits in the queue, or if the queue is paused. A job on its
        last attempt gives none. `held` are the segments of the job that the worker computes, and `refused`
        the jobs that it cannot help with.
        """
        settings = self._store.settings
        args = queue, worker, settings.max_attempts, job_id, len(held), *held, *refused
        reply = self._scripts.eval("help", settings.prefix, *args)
        return HelpWanted(*reply) if reply else None

    def finish(self, job_id: str, claim: str, worker: str, number: int) -> bool:
        """Note that the worker has published the segment. Return False if it is not the worker's any more."""
        return bool(self._eval("finish_segment", job_id, claim, worker, number))

    def release(self, job_id: str, claim: str, worker: str, number: int) -> None:
        """Free the segment, which the worker has not finished."""
        self._eval("release_segment", job_id, claim, worker, number)

    def _eval(self, script: str, job_id: str, *args: Any) -> Any:
        return self._scripts.eval(script, *self._store.common_args(job_id), *args)
