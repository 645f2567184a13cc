"""Preparation of an API process before its first client needs it."""

import logging
import threading

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapi.services.backend import Backend
from worker.jobs.broker import configure, connect
from worker.jobs.cards import ModelCard
from worker.jobs.errors import NotReady
from worker.jobs.ledger.announcements import Announcements

__all__ = ["ApiWarmUp"]

log = logging.getLogger(__name__)

#: Seconds until the next try after an error.
RETRY_S = 1.0


class ApiWarmUp:
    """A thread that prepares each served model, and opens the connection on which messages are sent.

    Without it, the first client of each process and of each new model would wait until the prompt template is
    parsed and the connection is open. It also keeps `Backend.served_models` current, so that a request that
    names a model need not read it from Redis. Workers announce their models. The thread also looks once in a
    lease, because a model whose workers have left is served no more after a while.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._news = Announcements(backend.store, "models")
        self._seen: set[ModelCard] = set()
        self._connected = False
        self._thread = threading.Thread(target=self._loop, name="warm-up", daemon=True)

    def start(self) -> None:
        """Start the thread. It runs as long as the process."""
        configure()
        self._news.start()
        self._thread.start()

    def refresh(self) -> None:
        """Prepare new models, update `served_models`, and connect once to the broker.

        Raises `RedisError` or kombu's `OperationalError` when Redis is away.
        """
        cards, queues = self._backend.registry.models(), self._backend.registry.served_queues()
        for card in set(cards) - self._seen:
            self._prepare(card)
        self._backend.served_models.clear()  # a request that comes now reads Redis
        self._backend.served_models.update(
            {(card.kind, card.name): card for card in cards if card.queue in queues}
        )
        if not self._connected:
            connect()
            self._connected = True

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
                self.refresh()
                pause_s = self._backend.settings.lease_ttl_s
            except (RedisError, OperationalError) as error:
                log.debug("the warm-up waits for Redis: %s", error)
            except Exception:  # the next try may succeed
                log.exception("the warm-up failed")
            self._news.wait(pause_s)
