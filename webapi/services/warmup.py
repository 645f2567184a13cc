"""Preparation of an API process before its first client needs it."""

import logging
import threading

from redis.exceptions import RedisError

from webapi.services.backend import Backend
from worker.jobs.cards import ModelCard
from worker.jobs.errors import NotReady

__all__ = ["ApiWarmUp"]

log = logging.getLogger(__name__)

#: Seconds until the next look after an error, or while a model without a live worker is still served.
RETRY_S = 1.0
#: Leases until the next look otherwise.
IDLE_LEASES = 3


class ApiWarmUp:
    """A thread that prepares each served model, and loads the script of a submit.

    Without it, the first client of each process and of each new model would wait until the prompt template is
    parsed and the script is loaded. It also keeps `Backend.served_models` current, so that a request that
    names a model need not read it from Redis. A worker's coming and leaving is announced. The thread also
    looks at long intervals, and often while a model has no live worker, because such a model is served no
    more after a while.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._news = backend.announcements.topic("models")
        self._seen: set[ModelCard] = set()
        self._thread = threading.Thread(target=self._loop, name="warm-up", daemon=True)

    def start(self) -> None:
        """Start the thread. It runs as long as the process."""
        self._thread.start()

    def refresh(self) -> float:
        """Prepare new models, and update `served_models`. Return the seconds until the next look.

        Raises `RedisError` when Redis is away.
        """
        self._backend.store.scripts.sha("submit")
        cards, queues = self._backend.registry.models(), self._backend.registry.served_queues()
        for card in set(cards) - self._seen:
            self._prepare(card)
        self._backend.served_models.clear()  # a request that comes now reads Redis
        self._backend.served_models.update(
            {(card.kind, card.name): card for card in cards if card.queue in queues}
        )
        return IDLE_LEASES * self._backend.settings.lease_ttl_s if all(queues.values()) else RETRY_S

    def _prepare(self, card: ModelCard) -> None:
        try:
            if card.digest is not None:  # it has a prompt template
                self._backend.token_counter.prepare(card)
        except NotReady:
            return  # the worker has not published its template yet; the next check finds it
        except RedisError:
            raise
        except Exception:  # the other models must still be prepared
            log.exception("the prompt template of %s cannot be used", card.name)
        self._seen.add(card)

    def _loop(self) -> None:
        while True:
            pause_s = RETRY_S
            try:
                pause_s = self.refresh()
            except RedisError as error:
                log.debug("the warm-up waits for Redis: %s", error)
            except Exception:  # the next try may succeed
                log.exception("the warm-up failed")
            self._news.wait(pause_s)
