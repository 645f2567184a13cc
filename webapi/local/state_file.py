"""The whereabouts of a running `stoker up`: a file in its home, for the other commands to find it."""

import json
from collections.abc import Mapping

from worker.jobs.settings import Settings

__all__ = ["follow", "forget", "tell"]

FILE = "up.json"


def tell(settings: Settings, state: Mapping[str, object]) -> None:
    """Write where the stack is, for its user alone: the Redis URL may hold a password."""
    path = settings.root / FILE
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(state))
    part.replace(path)


def forget(settings: Settings) -> None:
    """The stack has ended."""
    (settings.root / FILE).unlink(missing_ok=True)


def follow(settings: Settings) -> Settings:
    """These settings, with the addresses of the stack that runs here where the environment names none."""
    path = settings.root / FILE
    state = json.loads(path.read_text()) if path.exists() else {}
    given = settings.model_fields_set
    found = {name: state.get(name) for name in ("url", "redis_url") if name not in given}
    return settings.updated(**found)
