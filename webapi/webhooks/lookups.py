"""Name look-ups with a deadline."""

import socket
import threading
from collections import Counter
from functools import partial

from worker.jobs.daemon_threads import DaemonThreads
from worker.jobs.dispatch.webhook_limits import OWNER_AT_ONCE
from worker.jobs.errors import DeliveryFailed

__all__ = ["LOOKUP_S", "MAX_LOOKUPS", "Lookups"]

#: The longest wait for the answer of a look-up, in seconds.
LOOKUP_S = 5.0
#: Look-ups of all owners that may have no answer at the same time.
MAX_LOOKUPS = 256


class Lookups:
    """Look-ups of host names, each in a thread of its own, because nothing interrupts the system's resolver.

    The thread of a look-up without an answer is busy until the resolver gives up, which may take minutes.
    So an owner has `OWNER_AT_ONCE` of these threads at most, and cannot use up those of others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._threads = DaemonThreads("look-up")

    def addresses(self, host: str, owner: str, timeout_s: float = LOOKUP_S) -> list[str]:
        """Return the host's numeric addresses. Raises `DeliveryFailed` if there is no answer in time."""
        with self._lock:
            if self._running[owner] >= OWNER_AT_ONCE or self._running.total() >= MAX_LOOKUPS:
                raise DeliveryFailed(f"{host}: too many look-ups of names have no answer yet")
            self._running[owner] += 1
        try:
            answer = self._threads.submit(partial(self._look_up, host, owner))
        except RuntimeError as error:  # this process cannot have more threads
            self._end(owner)
            raise DeliveryFailed(f"{host}: {error}") from None
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            raise DeliveryFailed(f"{host}: the look-up of the name took too long") from None
        except (OSError, UnicodeError) as error:
            raise DeliveryFailed(f"{host}: {error}") from None

    def _look_up(self, host: str, owner: str) -> list[str]:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        finally:
            self._end(owner)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def _end(self, owner: str) -> None:
        with self._lock:
            self._running[owner] -= 1
