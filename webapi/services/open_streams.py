"""The number of event streams that each key has open in this process."""

from collections import Counter

from flask import Response, after_this_request

from worker.jobs.errors import TooManyStreams

__all__ = ["OpenStreams"]


class OpenStreams:
    """Counts of the open event streams of each owner, and of the requests that wait for the end of a job."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[str] = Counter()

    def count(self, owner: str) -> None:
        """Count the current request until its response is closed.

        Raises `TooManyStreams` if the owner has as many as the limit. The empty owner has no limit, because
        it stands for every caller of an API without keys.
        """
        if not owner:
            return
        if self._open[owner] >= self._limit:
            raise TooManyStreams(f"this key has {self._limit} event streams open; close some of them")
        self._open[owner] += 1
        after_this_request(lambda response: self._leave_with(response, owner))

    def _leave_with(self, response: Response, owner: str) -> Response:
        response.call_on_close(lambda: self._leave(owner))
        return response

    def _leave(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]
