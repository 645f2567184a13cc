"""The cleanup of files: those of jobs that have ended or expired, and those that no job needs.

Each step removes files first and changes Redis afterwards. On a full disk Redis refuses every change, and the
files that are removed make room for it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError

from worker.jobs.connection.refusals import CommandRefused
from worker.jobs.errors import InvalidJobId, MediaUnavailable
from worker.jobs.kinds import has_files
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.logs.facts import facts
from worker.jobs.media.files import JobFiles, Media

__all__ = ["FileCleanup"]

log = logging.getLogger(__name__)


class FileCleanup:
    """Removes the files of jobs from a media store. Methods raise `RedisError` if Redis cannot be reached.

    Unreachable files are removed by a later call, which also changes Redis later if it refuses writes now.
    """

    def __init__(self, ledger: Ledger, media: Media) -> None:
        self._ledger = ledger
        self._media = media

    def remove_inputs(self, age_s: float) -> None:
        """Remove what jobs that ended more than `age_s` seconds ago no longer need.

        A job that has succeeded needs its result. A failed or canceled one needs its inputs, for a retry.

        The age gives a worker time to notice that its job was ended. It also protects against a Redis that is
        killed and forgets the last second: a job whose end it has forgotten runs again, and needs its clip.
        """
        job_ids = self._ledger.with_inputs(age_s)
        states = dict(zip(job_ids, self._ledger.fields("state", job_ids), strict=True))
        removed = self._remove_files(job_ids, lambda files: _remove_unneeded(files, states[files.job_id]))
        with _refused_writes_logged():
            self._ledger.inputs_removed(*removed)

    def drop_expired(self) -> None:
        """Delete the jobs that ended more than `retention_s` ago, those that are evicted, and their files."""
        job_ids = self._ledger.expired()
        kinds = self._ledger.fields("kind", job_ids)
        with_files = [job_id for job_id, kind in zip(job_ids, kinds, strict=True) if has_files(kind)]
        others = [job_id for job_id, kind in zip(job_ids, kinds, strict=True) if not has_files(kind)]
        removed = self._remove_files(with_files, JobFiles.remove)
        with _refused_writes_logged():
            self._ledger.forget_all([*others, *removed])

    def drop_unneeded(self, age_s: float) -> None:
        """Remove files that no job has needed for `age_s` seconds.

        An API that died during an upload leaves files of no job. A worker that did not notice the end of its
        job leaves work files, or a result. Raises `MediaUnavailable`.
        """
        found = {files.job_id: files for files in self._media.all_files()}
        states = dict(zip(found, self._ledger.fields("state", list(found)), strict=True))
        for job_id in self._ledger.ended_before(list(found), age_s):
            _remove_unneeded(found[job_id], states[job_id])
        with _refused_writes_logged():
            for job_id in self._ledger.orphans(
                [key for key, state in states.items() if state is None], age_s
            ):
                log.info("files are removed, because there is no such job", extra=facts(job=job_id))
                found[job_id].remove()

    def _remove_files(self, job_ids: Sequence[str], remove: Callable[[JobFiles], None]) -> Sequence[str]:
        """Call `remove` for the files of each job, until the media store is away. Return the jobs done."""
        for done, job_id in enumerate(job_ids):
            try:
                with suppress(InvalidJobId):  # Stoker made no such job
                    remove(self._media.files(job_id))
            except MediaUnavailable as error:
                log.warning("recovery: files will be removed later: %s", error)
                return job_ids[:done]
        return job_ids


def _remove_unneeded(files: JobFiles, state: str | None) -> None:
    """Remove what a job in this final state no longer needs. None means that its record is gone."""
    if state is None:
        files.remove()
    elif state == "succeeded":
        files.remove_inputs()
    else:  # a retry needs the inputs
        files.remove_work()
        files.remove_result()


@contextmanager
def _refused_writes_logged() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        if not isinstance(error, CommandRefused):
            raise
        log.warning("recovery: files are removed, but Redis cannot write: %s", error)
