"""Name look-ups with a deadline."""

import socket
import threading
from collections import Counter
from concurrent.futures import Future

from worker.jobs.dispatch.webhook_queue import OWNER_AT_ONCE
from worker.jobs.errors import DeliveryFailed

__all__ = ["LOOKUP_S", "MAX_LOOKUPS", "Lookups"]

#: The longest wait for the answer of a look-up, in seconds.
LOOKUP_S = 5.0
#: Look-ups of all owners that may have no answer at the same time.
MAX_LOOKUPS = 256


class Lookups:
    """Look-ups of host names, each in a thread of its own, because nothing interrupts the system's resolver.

    The thread of a look-up without an answer ends when the resolver gives up, which may take minutes.
    So an owner has `OWNER_AT_ONCE` of these threads at most, and cannot use up those of others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    def addresses(self, host: str, owner: str, timeout_s: float = LOOKUP_S) -> list[str]:
        """Return the host's numeric addresses. Raises `DeliveryFailed` if there is no answer in time."""
        with self._lock:
            if self._running[owner] >= OWNER_AT_ONCE or self._running.total() >= MAX_LOOKUPS:
                raise DeliveryFailed(f"{host}: too many look-ups of names have no answer yet")
            self._running[owner] += 1
        answer: Future[list[str]] = Future()
        try:
            threading.Thread(target=self._look_up, args=(host, owner, answer), daemon=True).start()
        except RuntimeError as error:  # this process cannot have more threads
            self._end(owner)
            raise DeliveryFailed(f"{host}: {error}") from None
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            raise DeliveryFailed(f"{host}: the look-up of the name took too long") from None
        except (OSError, UnicodeError) as error:
            raise DeliveryFailed(f"{host}: {error}") from None

    def _look_up(self, host: str, owner: str, answer: "Future[list[str]]") -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answer.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except Exception as error:
            answer.set_exception(error)
        finally:
            self._end(owner)

    def _end(self, owner: str) -> None:
        with self._lock:
            self._running[owner] -= 1
