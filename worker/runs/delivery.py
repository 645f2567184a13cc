"""The delivery of appends to the ledger, again and again until it has them."""

import logging
import time
from collections.abc import Sequence

from worker.jobs.connection.refusals import until_redis_answers
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.appends import Append, Behind, LedgerReply, Reply
from worker.jobs.logs.facts import facts
from worker.runs.unconfirmed import Unconfirmed

__all__ = ["Delivery"]

log = logging.getLogger(__name__)

#: What the log says while Redis is away.
WAITING = "appends wait"


class Delivery:
    """Sends appends to the ledger, and sends those again that a failover of Redis has lost.

    While Redis is away, it waits. An append is safe to repeat. Only the outbox's thread calls the methods.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.unconfirmed = Unconfirmed()

    def send(self, appends: Sequence[Append]) -> Sequence[Reply]:
        """Append to the ledger, and return the replies. Raises errors that would come again."""
        answers = self._append(appends)
        replies: list[Reply] = ["stale" if isinstance(answer, Behind) else answer for answer in answers]
        behind: dict[str, Behind] = {}
        for append, answer in zip(appends, answers, strict=True):
            if isinstance(answer, Behind):
                behind.setdefault(append.claim, answer)
        for claim, answer in behind.items():
            places = [index for index, append in enumerate(appends) if append.claim == claim]
            kept = self.unconfirmed.appends_of(claim)
            again = self._catch_up([*kept, *(appends[index] for index in places)], answer)
            for index, reply in zip(places, again[len(kept) :], strict=True):
                replies[index] = reply
        logged = (append for append, reply in zip(appends, replies, strict=True) if reply != "stale")
        self.unconfirmed.add(logged, time.monotonic())
        return replies

    def send_again(self) -> None:
        """Send all unconfirmed appends again. The ledger takes what it has lost, and ignores the others."""
        for claim in self.unconfirmed.suspect_all():
            appends = self.unconfirmed.appends_of(claim)
            if not appends:  # confirmed or forgotten just now
                continue
            *_, last = answers = self._append(appends)
            for answer in answers:
                if isinstance(answer, Behind):
                    last = self._catch_up(appends, answer)[-1]
                    break
            if last == "stale":
                self.unconfirmed.forget(claim)
            else:
                self.unconfirmed.acknowledged_again(claim, time.monotonic())

    def _catch_up(self, appends: Sequence[Append], behind: Behind) -> Sequence[Reply]:
        """Send an attempt's appends again, from its first unconfirmed one on, and return the replies.

        All of them are stale if the ledger has lost more than is kept, or if another attempt owns the job.
        """
        job_id, claim, logged = appends[0].job_id, appends[0].claim, behind.logged
        if logged is None and (record := self.unconfirmed.record_of(claim)):
            logged = until_redis_answers(lambda: self._dispatcher.ledger.claim_again(record), WAITING)
        if logged is None or appends[0].first > logged + 1:
            log.warning("a failover of Redis has lost too much of this attempt", extra=facts(job=job_id))
            return ["stale"] * len(appends)
        log.warning("a failover of Redis has lost events, which are sent again", extra=facts(job=job_id))
        replies: list[Reply] = [
            "stale" if isinstance(answer, Behind) else answer for answer in self._append(appends)
        ]
        if replies[-1] != "stale":
            self.unconfirmed.acknowledged_again(claim, time.monotonic())
        return replies

    def _append(self, appends: Sequence[Append]) -> Sequence[LedgerReply]:
        return until_redis_answers(lambda: self._dispatcher.append(appends), WAITING)
