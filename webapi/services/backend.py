"""The backend: what the routes of one app share, made once by `create_app`."""

import logging
from dataclasses import dataclass, field
from typing import cast

from flask import current_app

from webapi.services.feed import Feed
from webapi.services.gevent_media import open_media
from webapi.services.keys import Keys
from webapi.services.token_counter import TokenCounter
from worker.jobs.errors import MediaUnavailable
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.media.files import JobFiles, Media
from worker.jobs.records import ModelCard
from worker.jobs.settings import Settings

__all__ = ["Backend", "current_backend"]

logger = logging.getLogger(__name__)

_NAME = "stoker"


@dataclass(frozen=True, slots=True)
class Backend:
    """The ledger and what is built on it."""

    settings: Settings
    ledger: Ledger
    media: Media
    registry: Registry
    queues: Queues
    feed: Feed
    token_counter: TokenCounter
    keys: Keys
    #: The models that workers have served, by kind and name, as the warm-up saw them at its last look.
    served_models: dict[tuple[str, str], ModelCard] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Backend":
        """Everything for these settings; nothing connects yet."""
        ledger = Ledger(settings)
        registry = Registry(ledger)
        feed = Feed(ledger.redis, ledger.key("feed"))
        media = open_media(settings)
        return cls(
            settings, ledger, media, registry, Queues(ledger), feed, TokenCounter(registry), Keys(ledger)
        )

    def files(self, job_id: str) -> JobFiles:
        """Where the job's files lie."""
        return self.media.files(job_id)

    def remove_files(self, job_id: str) -> None:
        """Remove the job's files; if the media store is away, recovery does so within a day."""
        try:
            self.files(job_id).remove()
        except MediaUnavailable as error:
            logger.warning("job %s: its files stay for now: %s", job_id, error)


def current_backend() -> Backend:
    """The backend of the app that handles the current request."""
    return cast(Backend, current_app.extensions[_NAME])
