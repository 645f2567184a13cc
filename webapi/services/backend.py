"""The objects that all routes of one app share. `create_app` makes them once."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import current_app

from webapi.keys.keys import Keys
from webapi.services.feed import Feed
from webapi.services.gevent_media import open_media
from webapi.services.open_streams import OpenStreams
from webapi.services.redis_memory import RedisMemory
from webapi.services.request_metrics import RequestMetrics
from webapi.services.token_counter import TokenCounter
from worker.jobs.cards import ModelCard
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import MediaUnavailable
from worker.jobs.kinds import has_files
from worker.jobs.ledger.announcements import Announcements
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.logs.facts import facts
from worker.jobs.media.files import JobFiles, Media
from worker.jobs.settings import Settings

__all__ = ["Backend", "current_backend"]

logger = logging.getLogger(__name__)

_NAME = "stoker"


@dataclass(frozen=True, slots=True)
class Backend:
    """The settings, the state in Redis, the media store, and the services built on them."""

    settings: Settings
    store: RedisStore
    #: What clients may read.
    ledger: Ledger
    dispatcher: Dispatcher
    media: Media
    registry: Registry
    queues: Queues
    metrics: MetricsStore
    requests: RequestMetrics
    feed: Feed
    token_counter: TokenCounter
    keys: Keys
    streams: OpenStreams
    redis_memory: RedisMemory
    #: What this process waits for. `create_app` starts them.
    announcements: Announcements
    #: The models that workers serve, by kind and name. The warm-up keeps them current.
    served_models: dict[tuple[str, str], ModelCard] = field(default_factory=dict)
    #: Called with the id of each job that is deleted at a client's request, while its record is still there.
    before_forget: list[Callable[[str], None]] = field(default_factory=list)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Backend":
        """Create the backend for these settings. It connects to nothing yet.

        Raises `ConfigurationError` if the media store cannot be opened.
        """
        store, media = RedisStore(settings), open_media(settings)
        registry, metrics = Registry(store), MetricsStore(store)
        return cls(
            settings=settings,
            store=store,
            ledger=Ledger(store, replicated=True),
            dispatcher=Dispatcher(store),
            media=media,
            registry=registry,
            queues=Queues(store),
            metrics=metrics,
            requests=RequestMetrics(metrics),
            feed=Feed(store),
            token_counter=TokenCounter(registry),
            keys=Keys(store),
            streams=OpenStreams(settings.max_open_streams_per_key),
            redis_memory=RedisMemory(store),
            announcements=Announcements(store),
        )

    def files(self, job_id: str) -> JobFiles:
        """Return the files of the job in the media store."""
        return self.media.files(job_id)

    def remove_files(self, job_id: str) -> bool:
        """Remove the job's files, and return whether that was possible.

        If the media store is away, recovery removes them a day later.
        """
        try:
            self.files(job_id).remove()
        except MediaUnavailable as error:
            logger.warning("its files stay until the media store is back: %s", error, extra=facts(job=job_id))
            return False
        return True

    def forget(self, job_id: str) -> None:
        """Delete an ended job, its files first: on a full disk they make room for the deletion of the record.

        Raises `JobNotFound`, or `JobConflict` while the job waits or runs.
        """
        record = self.ledger.get(job_id)
        if record.terminal and has_files(record.kind):
            self.remove_files(job_id)
        if record.terminal:
            for handle in self.before_forget:
                handle(job_id)
        self.ledger.forget(job_id)


def current_backend() -> Backend:
    """Return the backend of the app that handles the current request."""
    return cast(Backend, current_app.extensions[_NAME])
