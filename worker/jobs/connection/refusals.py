"""Refusals: the replies with which Redis says that it does not serve commands for the moment.

Every connection to Redis raises them, that of the ledger and that of Celery. They mean the same as a Redis
that is away: wait, and try again.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = [
    "CommandRefused",
    "Refusal",
    "ServerNotReady",
    "is_away",
    "is_denied",
    "refusal_of",
    "until_redis_answers",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The first and the longest pause before a command is repeated, in seconds.
RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0

#: The codes of a server that still loads its data, that is a replica, or that has just become one. A server
#: with too few replicas may be an old primary that another one has replaced.
NOT_READY = ("LOADING", "MASTERDOWN", "NOREPLICAS", "READONLY", "UNBLOCKED")
#: The codes of a server that will serve commands again: its disk or its memory is full, a script takes long,
#: or its cluster is not complete.
REFUSED = ("BUSY", "CLUSTERDOWN", "MISCONF", "OOM", "TRYAGAIN")
#: A code at the start of a reply, of a reason (`EXECABORT … because of: MISCONF …`), or, before Redis 7, of
#: the error of a script (`… @user_script: 12: -OOM …`).
CODE = re.compile(f"(?:^|: -?)({'|'.join((*NOT_READY, *REFUSED))})(?: |$)")


class Refusal(RedisError):
    """Redis answers, but refuses the command for the moment, and has not executed it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}" if message else code)
        #: The first word of the reply, such as `MISCONF`.
        self.code = code


class CommandRefused(Refusal, ResponseError):
    """The server refuses commands that write, or all commands. The connection stays open.

    It is a `ResponseError`, so redis-py still reads the replies to the other commands of a pipeline.
    """


class ServerNotReady(Refusal, RedisConnectionError):
    """The server is not a primary that is ready. The connection closes.

    The next command connects again. The address may lead to another server by that time.
    """


def refusal_of(error: RedisError) -> Refusal | None:
    """Return the refusal that an error of redis-py stands for; None if it is another error."""
    code, text = getattr(error, "status_code", None), str(error)
    if code not in (*NOT_READY, *REFUSED):  # redis-py removes only the codes that it knows from the text
        found = CODE.search(text)
        if found is None:
            return None
        code, text = found[1], text[found.end() :]
    return (ServerNotReady if code in NOT_READY else CommandRefused)(code, text)


def is_denied(error: RedisError) -> bool:
    """Return whether Redis refuses the user's password, or the user lacks a right."""
    return isinstance(error, AuthenticationError | NoPermissionError)


def is_away(error: RedisError) -> bool:
    """Return whether the command may succeed later: Redis cannot be reached, or refuses it for now.

    A denial counts, too: a process that runs has had access, so somebody changes passwords or rights now.
    """
    return isinstance(error, Refusal) or is_denied(error) or not isinstance(error, ResponseError)


def until_redis_answers(ask: Callable[[], T], waiting: str, *, starting: bool = False) -> T:
    """Call `ask` again and again while Redis is away, and return its answer.

    `waiting` says in the log what waits. Raises errors that would come again. For a process that is
    `starting`, a denial is one of them.
    """
    pause_s = RETRY_MIN_S
    while True:
        try:
            return ask()
        except RedisError as error:
            if not is_away(error) or (starting and is_denied(error)):
                raise
            log.warning("Redis is away, %s: %s", waiting, error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
