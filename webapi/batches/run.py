"""The run of one batch, in small steps that any API process can take after another has died."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from webapi.batches.batch import Batch
from webapi.batches.batch_store import BatchStore
from webapi.batches.collected_jobs import CollectedJobs
from webapi.batches.endpoints import ENDPOINTS
from webapi.batches.lines import InputFile, LineError, Request, open_input
from webapi.batches.outputs import Outputs
from webapi.batches.results import Result, ended, guarded, stopped
from webapi.files.file_store import FileStore
from webapi.openai.routes import unknown_model
from webapi.services.backend import Backend
from webapi.services.system_threads import call_in_thread
from webapi.submission.submit import submit
from worker.jobs.errors import FileNotKept, JobNotFound, NotReady, QueueFull, Unsupported
from worker.jobs.specs import JobSpec

__all__ = ["BatchRun", "Room", "job_id_of"]

log = logging.getLogger(__name__)

#: Requests whose jobs are looked up in one round trip, and the most results of a part.
PAGE, PART = 200, 500
#: Most characters of the name of a model, as in a chat.
MAX_NAME = 256


@dataclass(slots=True)
class Room:
    """How many more requests of one key may wait now."""

    left: int


def job_id_of(batch: Batch, number: int) -> str:
    """Return the id of the job of this request, so that a request that is submitted twice makes one job."""
    return hashlib.sha256(f"{batch.id} {number}".encode()).hexdigest()[:32]


class BatchRun:
    """A batch as one process runs it. The state of the run is in the ledger and in `BatchStore`.

    Each step runs in an app context whose caller is the key of the batch.
    """

    def __init__(self, backend: Backend, batches: BatchStore, files: FileStore, jobs: CollectedJobs) -> None:
        self._backend = backend
        self._batches = batches
        self._files = files
        self._jobs = jobs
        self._outputs = Outputs(files)
        self._input: InputFile | None = None
        #: Whether no request had a job at the last step, so that there is nothing to collect.
        self._waits = False

    def step(self, batch: Batch, room: Room) -> None:
        """Do what can be done now. Raises `RedisError`, `MediaUnavailable`, and OSError if a disk is full."""
        try:
            self._step(batch, room)
        except FileNotKept as error:
            self._fail(batch, [LineError("file_not_found", str(error))])

    def _step(self, batch: Batch, room: Room) -> None:
        match batch.status:
            case "validating":
                self._validate(batch)
            case "in_progress" | "cancelling":
                if not batch.stop and batch.expires_at <= self._backend.store.clock.now():
                    self._batches.change(batch, batch.status, stop="expired")
                else:
                    self._advance(batch, room)
            case "finalizing":
                self._finalize(batch)
            case _:  # it has ended
                self._outputs.remove_parts(batch)
                self._batches.close(batch)

    def close(self) -> None:
        """Close the input file."""
        if self._input:
            self._input.file.close()

    def _validate(self, batch: Batch) -> None:
        found = self._open(batch)
        if found.errors:
            self._fail(batch, found.errors)
        else:
            model = found.request(0).body.get("model")
            if not isinstance(model, str) or not model.isprintable() or len(model) > MAX_NAME:
                model = None  # the request gets its own error
            self._batches.change(batch, "in_progress", total=len(found.starts), model=model)

    def _fail(self, batch: Batch, errors: Sequence[LineError]) -> None:
        log.warning("%s: failed: %s in line %s", batch.id, errors[0].code, errors[0].line)
        data = {"object": "list", "data": [asdict(error) for error in errors]}
        self._batches.change(batch, "failed", errors=data)

    def _open(self, batch: Batch) -> InputFile:
        """Return the input file. Raises `FileNotKept`."""
        if self._input is None:
            content = self._files.content(self._files.get(batch.input_file_id, batch.owner))
            settings = self._backend.settings
            found = InputFile(open_input(content, settings.staging_dir))
            call_in_thread(found.scan, batch.endpoint, settings.max_batch_lines)
            self._input = found
        return self._input

    def _advance(self, batch: Batch, room: Room) -> None:
        """Submit requests, and collect the results of those whose jobs have ended."""
        if self._waits and not batch.stop and room.left <= 0:
            return
        total, self._waits = batch.total or 0, False
        undone = list(_undone(self._batches.done(batch), total))
        if not undone:
            self._batches.change(batch, "finalizing")
        elif results := list(islice(self._results(batch, iter(undone), room), PART)):
            self._collect(batch, results)

    def _results(self, batch: Batch, undone: Iterator[int], room: Room) -> Iterator[Result]:
        """Yield the results that there are now, and submit what has no job yet."""
        started = False
        while numbers := list(islice(undone, PAGE)):
            job_ids = [job_id_of(batch, number) for number in numbers]
            states = self._backend.ledger.fields("state", job_ids)
            for number, job_id, state in zip(numbers, job_ids, states, strict=True):
                if state in ("queued", "running"):
                    room.left -= state == "queued"
                    if batch.stop:
                        self._backend.dispatcher.cancel(job_id)
                elif state is not None:
                    request = self._open(batch).request(number)
                    yield from guarded(self._ended(batch, number, job_id, request), number, job_id, request)
                elif batch.stop or room.left > 0:
                    request = self._open(batch).request(number)
                    begun = self._begin(batch, number, job_id, request, room)
                    yield from guarded(begun, number, job_id, request)
                else:
                    self._waits = not started
                    return  # the requests that follow have no jobs either
                started = True

    def _ended(self, batch: Batch, number: int, job_id: str, request: Request) -> Iterator[Result]:
        try:
            record = self._backend.ledger.get(job_id)
            yield ended(self._backend.ledger, batch, number, request, record)
        except (JobNotFound, NotReady) as error:  # it was deleted just now, or a failover could undo its end
            log.info("%s: request %d is collected later: %s", batch.id, number, error)

    def _begin(
        self, batch: Batch, number: int, job_id: str, request: Request, room: Room
    ) -> Iterator[Result]:
        """Submit a request. Yield its result if it has one without a job."""
        if batch.stop:
            yield stopped(number, job_id, request, batch.stop)
            return
        try:
            spec = ENDPOINTS[batch.endpoint].job(request.body)
            with unknown_model():
                limited = self._within_window(batch, spec)
                submit(self._backend, job_id, limited, background=True, cause=batch.trace)
            room.left -= 1
        except (QueueFull, NotReady, Unsupported) as error:
            log.debug("%s: request %d waits: %s", batch.id, number, error)
            room.left = 0

    def _within_window(self, batch: Batch, spec: JobSpec) -> JobSpec:
        """Return the spec with a limit of its wait, which ends with the window of the batch."""
        left_s = max(1.0, batch.expires_at - self._backend.store.clock.now())
        limit_s = min(left_s, self._backend.settings.max_queue_limit_s)
        return spec.model_copy(update={"max_queue_s": min(spec.max_queue_s or limit_s, limit_s)})

    def _collect(self, batch: Batch, results: Sequence[Result]) -> None:
        known = len(self._batches.parts(batch))
        part = self._outputs.write_part(batch, results)
        completed = sum(result.completed for result in results)
        tokens = map(sum, zip(*(result.tokens for result in results), strict=True))
        counts = completed, len(results) - completed, *tokens
        if self._batches.collect(batch, known, part, counts, [result.number for result in results]):
            self._jobs.add([result.job_id for result in results])

    def _finalize(self, batch: Batch) -> None:
        settings, now = self._backend.settings, self._backend.store.clock.now()
        parts = self._batches.parts(batch)
        files = self._outputs.write_files(batch, parts, now, settings.file_retention_s)
        self._batches.change(batch, batch.stop or "completed", **files)


def _undone(done: bytes, total: int) -> Iterator[int]:
    """Yield the numbers below `total` whose bit is not set. The highest bit of the first byte is number 0."""
    for number in range(total):
        index, bit = divmod(number, 8)
        if index >= len(done) or not done[index] & (0x80 >> bit):
            yield number
