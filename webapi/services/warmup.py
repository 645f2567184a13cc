"""Warm-up: what an API process has ready before a client needs it."""

import logging
import threading
import time

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapi.services.backend import Backend
from worker.jobs.broker import connect
from worker.jobs.errors import NotReady
from worker.jobs.records import ModelCard

__all__ = ["ApiWarmUp"]

log = logging.getLogger(__name__)

#: How often to look for models that workers have published since.
LOOK_S = 1.0


class ApiWarmUp:
    """Parses the prompt templates of all models that are served, and opens the connection for hints.

    Otherwise the first client of each process, and of each new model, would wait for that. And each would ask
    Redis for the model that it names.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._seen: set[ModelCard] = set()
        self._connected = False
        self._thread = threading.Thread(target=self._loop, name="warm-up", daemon=True)

    def start(self) -> None:
        """Start the thread that looks."""
        self._thread.start()

    def refresh(self) -> None:
        """Prepare what is new. Raises `RedisError`, `OperationalError`."""
        cards = self._backend.registry.models()
        for card in set(cards) - self._seen:
            self._prepare(card)
        self._backend.served_models.clear()  # who looks just now asks Redis
        self._backend.served_models.update({(card.kind, card.name): card for card in cards})
        if not self._connected:
            connect()
            self._connected = True

    def _prepare(self, card: ModelCard) -> None:
        try:
            if card.kind == "chat":
                self._backend.token_counter.prepare(card)
        except NotReady:
            return  # its template comes
        except RedisError:
            raise
        except Exception:  # the others must not pay for it
            log.exception("the prompt template of %s cannot be used", card.name)
        self._seen.add(card)

    def _loop(self) -> None:
        while True:
            try:
                self.refresh()
            except (RedisError, OperationalError) as error:
                log.debug("not warm yet: %s", error)
            except Exception:  # what cannot be prepared now may be later
                log.exception("warming up")
            time.sleep(LOOK_S)
