"""The worker's side of a failover of Redis: it notices another server, and makes good what was lost."""

import logging
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from worker.jobs.errors import NotReplicated
from worker.jobs.ledger.replicas import Replicas
from worker.runs.outbox import Outbox

__all__ = ["Failover"]

log = logging.getLogger(__name__)

#: How long writes count as unsafe without replicas to confirm them, in seconds. A server that writes its
#: append-only file once a second loses less, and so does a managed endpoint with replicas of its own.
UNSAFE_S = 10.0


class Failover:
    """Looks for a failover at each heartbeat.

    `on_new_server` is called after a failover, when the appends that may be lost are about to be sent again.
    """

    def __init__(self, replicas: Replicas, outbox: Outbox, on_new_server: Callable[[], None]) -> None:
        self._replicas = replicas
        self._outbox = outbox
        self._on_new_server = on_new_server
        #: The id of the server at the last heartbeat.
        self._server = ""
        #: Appends that were acknowledged before this time are confirmed, if the server is still the same.
        self._safe_until: float | None = None

    def beat(self, server: str) -> None:
        """Note the server's id, which the renewal of the lease has returned, and confirm the appends.

        A confirmation counts when the next heartbeat finds the same server: a failover may have come before
        it, and it would be the new server's then.
        """
        if self._server not in ("", server):
            log.warning("Redis is another server now, or was restarted: the last events are sent again")
            self._outbox.offer_again()
            self._on_new_server()
        elif self._safe_until is not None:
            self._outbox.unconfirmed.confirmed(self._safe_until)
        self._server = server
        self._safe_until = self._confirm()

    def _confirm(self) -> float | None:
        """Return the time up to which acknowledged appends are safe; None if the replicas did not answer."""
        began = time.monotonic()
        if not self._replicas.needed:
            return began - UNSAFE_S
        try:
            self._replicas.confirm()
        except (NotReplicated, RedisError) as error:
            log.warning("the last events are not confirmed yet: %s", error)
            return None
        return began
