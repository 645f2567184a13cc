"""Open files: each connection of an API process is one, and systems begin with 1024."""

import logging
import resource

__all__ = ["CONNECTIONS", "raise_limit"]

log = logging.getLogger(__name__)

#: Of clients, streams included, to an API process.
CONNECTIONS = 10_000
#: What it opens beside them: Redis, uploads, results.
_OTHERS = 1000


def raise_limit(connections: int = CONNECTIONS) -> None:
    """Let this process, and those that it starts, have so many, or as many as the hard limit does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # macOS has a lower limit of its own
        log.warning("no more than %d open files: %s", soft, error)
