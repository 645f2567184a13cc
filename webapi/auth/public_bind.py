"""The check that an API without keys listens on a loopback address only."""

from webapi.keys.keys import Keys
from worker.jobs.errors import ConfigurationError
from worker.jobs.ledger.store import RedisStore
from worker.jobs.loopback import is_loopback
from worker.jobs.settings import Settings

__all__ = ["require_auth"]


def require_auth(settings: Settings) -> None:
    """Raise `ConfigurationError` if the API would listen on a public address without any API key.

    Raises `redis.exceptions.RedisError` if Redis, which holds the keys, is away.
    """
    if settings.no_auth or is_loopback(settings.host):
        return
    store = RedisStore(settings)
    try:
        closed = Keys(store).any()
    finally:
        store.close()
    if not closed:
        raise ConfigurationError(
            f"there is no API key, so the API would trust everyone who reaches {settings.host}: make one "
            "with `stoker keys create NAME` (while Redis or `stoker up` runs), or pass --no-auth"
        )
