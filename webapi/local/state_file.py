"""The state file of a running `stoker up`. The other commands read the addresses of the stack from it."""

import json
from collections.abc import Mapping

from worker.jobs.settings import Settings

__all__ = ["apply_to", "remove", "write"]

FILE = "up.json"


def write(settings: Settings, state: Mapping[str, object]) -> None:
    """Write the state file. Only its user may read it, because the Redis URL may hold a password."""
    path = settings.home_dir / FILE
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(state))
    part.replace(path)


def remove(settings: Settings) -> None:
    """Remove the state file, if there is one."""
    (settings.home_dir / FILE).unlink(missing_ok=True)


def apply_to(settings: Settings) -> Settings:
    """Return the settings, completed from the state file.

    The URLs of the API and of Redis come from the file unless the environment gives them.
    """
    path = settings.home_dir / FILE
    state = json.loads(path.read_text()) if path.exists() else {}
    given = settings.model_fields_set
    found = {name: state.get(name) for name in ("url", "redis_url") if name not in given}
    return settings.replace(**found)
