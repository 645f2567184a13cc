"""The whereabouts of a running `stoker up`: a file in its home, for the other commands to find it."""

import json
from collections.abc import Mapping

from worker.jobs.settings import Settings

__all__ = ["apply_to", "remove", "write"]

FILE = "up.json"


def write(settings: Settings, state: Mapping[str, object]) -> None:
    """Write where the stack is, for its user alone: the Redis URL may hold a password."""
    path = settings.home_dir / FILE
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(state))
    part.replace(path)


def remove(settings: Settings) -> None:
    """The stack has ended."""
    (settings.home_dir / FILE).unlink(missing_ok=True)


def apply_to(settings: Settings) -> Settings:
    """These settings, with the addresses of the stack that runs here where the environment names none."""
    path = settings.home_dir / FILE
    state = json.loads(path.read_text()) if path.exists() else {}
    given = settings.model_fields_set
    found = {name: state.get(name) for name in ("url", "redis_url") if name not in given}
    return settings.replace(**found)
