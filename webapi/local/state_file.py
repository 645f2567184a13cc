"""The state file of a running `stoker up`. The other commands read from it how to reach the stack."""

import json
import os
from collections.abc import Mapping
from typing import Any

from worker.jobs.settings import Settings

__all__ = ["follow", "read", "remove", "write"]

FILE = "up.json"
#: The settings that all processes of one stack must share.
SHARED = ("redis_url", "redis_password", "redis_replicas", "prefix", "media_url", "kinds")


def write(settings: Settings, url: str) -> None:
    """Write the state file of the stack of this process, whose API is at `url`.

    Only the user may read it, because it may hold passwords.
    """
    path = settings.home_dir / FILE
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    state = {
        "pid": os.getpid(),
        "url": url,
        "redis_url": settings.redis_url,
        "environment": settings.to_env([name for name in SHARED if name in settings.model_fields_set]),
    }
    part.write_text(json.dumps(state), "utf-8")
    part.replace(path)


def remove(settings: Settings) -> None:
    """Remove the state file, if there is one."""
    (settings.home_dir / FILE).unlink(missing_ok=True)


def read(settings: Settings) -> Mapping[str, Any]:
    """Return the state of the running stack; an empty one if none runs.

    A stack that was killed leaves its file behind.
    """
    path = settings.home_dir / FILE
    state: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    try:
        os.kill(state["pid"], 0)
    except PermissionError:  # it runs, as another user
        return state
    except (KeyError, ProcessLookupError):
        return {}
    return state


def follow(settings: Settings) -> Settings:
    """Return the settings of a command that belongs to the running stack.

    The URL of the API, the Redis and all that goes with it come from the stack, unless the environment gives
    them. A command with a Redis of its own does not belong to the stack.
    """
    if not (state := read(settings)):
        return settings
    shared = {"STOKER_REDIS_URL": state["redis_url"], **state.get("environment", {})}
    if "redis_url" in settings.model_fields_set:
        shared = {}
    return settings.completed({**shared, "STOKER_URL": state["url"]})
