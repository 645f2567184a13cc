"""The limit of open files. Every connection is an open file, and systems allow a process 1024 by default."""

import logging
import resource

__all__ = ["CONNECTIONS", "raise_limit"]

log = logging.getLogger(__name__)

#: Connections that clients may have to one API process, including event streams.
CONNECTIONS = 10_000
#: Files that the process opens beside them: connections to Redis, uploads, results.
_OTHERS = 1000


def raise_limit(connections: int = CONNECTIONS) -> None:
    """Raise the soft limit of open files so that this process can hold so many connections.

    The limit also applies to processes that it starts. It never exceeds the hard limit and is never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # macOS has a lower limit of its own
        log.warning("the limit of open files stays at %d: %s", soft, error)
