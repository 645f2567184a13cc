"""The backend: what the routes of one app share, made once by `create_app`."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from webapi.feed import Feed
from webapi.keys import Keys
from webapi.prompts import Prompts
from worker.jobs.ledger import Ledger
from worker.jobs.media import JobFiles
from worker.jobs.queues import Queues
from worker.jobs.registry import Registry
from worker.jobs.settings import Settings

__all__ = ["Backend", "backend"]

_NAME = "stoker"


@dataclass(frozen=True, slots=True)
class Backend:
    """The ledger and what is built on it."""

    settings: Settings
    ledger: Ledger
    registry: Registry
    queues: Queues
    feed: Feed
    prompts: Prompts
    keys: Keys

    @classmethod
    def of(cls, settings: Settings) -> "Backend":
        """Everything for these settings; nothing connects yet."""
        ledger = Ledger(settings)
        registry = Registry(ledger)
        feed = Feed(ledger.redis, ledger.key("feed"))
        return cls(settings, ledger, registry, Queues(ledger), feed, Prompts(registry), Keys(ledger))

    def files(self, job_id: str) -> JobFiles:
        """Where the job's files lie."""
        return JobFiles.of(self.settings.media_dir, job_id)


def backend() -> Backend:
    """The backend of the app that handles the current request."""
    return cast(Backend, current_app.extensions[_NAME])
