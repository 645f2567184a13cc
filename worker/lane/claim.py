"""The claim of one job, which may be on its way to Redis while the engine computes already."""

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from redis.exceptions import RedisError

from worker.jobs.connection.refusals import is_away
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.pending_reply import PendingReply
from worker.jobs.logs.facts import facts
from worker.jobs.records import Record

__all__ = ["Claim", "ClaimDiffers"]

log = logging.getLogger(__name__)

#: Pause before a claim is repeated that Redis has not answered, in seconds.
RETRY_S = 0.5


class ClaimDiffers(Exception):
    """The ledger has not given the job to the run that computes already. `Claim.outcome` is what it did."""


class Claim:
    """A worker's claim of a job, under a unique name.

    `wait_if_open` returns whether the lane claims jobs. Before that, it waits for so many seconds, or until
    the lane claims none.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        job_id: str,
        worker: str,
        device: str,
        wait_if_open: Callable[[float], bool],
        *,
        exclusive: bool,
    ) -> None:
        self._dispatcher = dispatcher
        self._job_id = job_id
        self._worker = worker
        self._device = device
        self._wait_if_open = wait_if_open
        self._exclusive = exclusive
        self._name = uuid.uuid4().hex
        self._reply: PendingReply | None = None
        #: The outcome, once it is known.
        self._outcomes: list[Record | None] = []

    def send(self) -> bool:
        """Send the claim to Redis, and return at once. Return False if it is not on its way."""
        if self._wait_if_open(0):
            with suppress(RedisError):  # `outcome` makes the claim
                self._reply = self._dispatcher.ledger.send_claim(*self._arguments, exclusive=self._exclusive)
        return self._reply is not None

    def drop(self) -> None:
        """Give up the reply to a claim that was sent, unless it was read."""
        if self._reply:
            self._reply.drop()

    def expected(self, sent: Record, now: float) -> Record:
        """Return the record of the job's first attempt, if the claim holds. `sent` is that of its message."""
        return replace(
            sent,
            state="running",
            attempt=1,
            worker=self._worker,
            device=self._device,
            claim=self._name,
            started_at=now,
            claimed_at=now,
        )

    def outcome(self) -> Record | None:
        """Return the record of the claimed job as soon as Redis answers.

        Return None if the job does not wait, or if the lane claims no more jobs. Raises
        `NeedsExclusiveWorker` as `Ledger.claim` does, and a `RedisError` that would come again.
        """
        if not self._outcomes:
            self._outcomes.append(self._settle())
        return self._outcomes[0]

    def check(self, expected: Record) -> Record:
        """Return the outcome. Raises `ClaimDiffers` if it is not the expected attempt at the job."""
        record = self.outcome()
        if record is None or (record.attempt, record.spec_json) != (expected.attempt, expected.spec_json):
            raise ClaimDiffers
        return record

    @property
    def _arguments(self) -> tuple[str, str, str, str]:
        return self._job_id, self._worker, self._device, self._name

    def _settle(self) -> Record | None:
        reply, self._reply = self._reply, None
        if reply:
            with suppress(RedisError):  # Redis may have made the claim, which is repeated under its name
                return self._dispatcher.ledger.read_claim(self._job_id, reply)
        while self._wait_if_open(0):
            try:
                return self._dispatcher.ledger.claim(*self._arguments, exclusive=self._exclusive)
            except RedisError as error:
                if not is_away(error):
                    raise
                log.warning("the job is not claimed yet: %s", error, extra=facts(job=self._job_id))
                self._wait_if_open(RETRY_S)
        try:
            self._dispatcher.send_again(self._job_id)
        except RedisError as error:
            log.warning("recovery will send its message again: %s", error, extra=facts(job=self._job_id))
        return None
