"""The settings of jobs, and the limits of what clients may ask for."""

from pydantic import ConfigDict, Field

from worker.jobs.limits import Limits
from worker.jobs.settings.area import Area

__all__ = ["Jobs"]


class Jobs(Area):
    """The settings of jobs, and the limits of what clients may ask for."""

    model_config = ConfigDict(title="Jobs and limits")

    lease_ttl_s: float = Field(10.0, gt=0)
    """The lifetime of a worker's lease, in seconds. A worker that is silent for longer loses its jobs. It is
    also the time that a running job's cancel may take if the worker does not react. Keep it at 2 s or
    more."""
    model_grace_s: float = Field(10.0, ge=0)
    """The seconds for which a model stays available after the lease of its last worker has ended. Then it
    leaves the lists of models, and requests for it get 503 unless they have a `max_queue_s`. With a large
    number jobs always wait. See [Models without a worker](queueing.md#models-without-a-worker)."""
    max_attempts: int = Field(3, ge=1)
    """The number of lost workers after which a job fails with `worker_lost`."""
    timeout_s: float = Field(3600.0, gt=0)
    """The seconds from a job's first start to its end, unless the job has its own `timeout_s`. A job that
    takes longer fails with `timeout`. See [Timeouts](queueing.md#timeouts)."""
    max_queue_s: float = Field(86_400.0, gt=0)
    """The seconds that a job may wait for its first start, unless the job has its own `max_queue_s`. A job
    that waits longer fails with `expired`. See [Timeouts](queueing.md#timeouts)."""
    max_timeout_s: float = Field(86_400.0, gt=0)
    """The largest `timeout_s` that a request may ask for, in seconds."""
    max_queue_limit_s: float = Field(604_800.0, gt=0)
    """The largest `max_queue_s` that a request may ask for, in seconds."""
    max_waiting: int = Field(1000, ge=1)
    """The number of jobs that may wait in one queue. The API then refuses keys that have an equal share with
    429. See [Caps and 429](queueing.md#caps-and-429)."""
    max_waiting_per_key: int = Field(250, ge=1)
    """The number of jobs that an API key made without `--max-waiting` may have waiting, in all queues
    together."""
    max_kept_jobs: int = Field(100_000, ge=1)
    """The number of ended jobs that are kept for one API key. Beyond it the oldest are deleted before their
    retention is over. See [What is kept](queueing.md#what-is-kept)."""
    max_kept_bytes: int = Field(256 * 2**20, ge=1)
    """The bytes that the jobs of one API key, ended or not, may occupy in Redis. See [What is
    kept](queueing.md#what-is-kept)."""
    max_kept_file_bytes: int = Field(20 * 2**30, ge=1)
    """The bytes that the files of one API key's jobs, ended or not, may have together. See [What is
    kept](queueing.md#what-is-kept)."""
    max_upload_bytes: int = Field(512 * 2**20, ge=1)
    """The largest size of one upload, in bytes."""
    max_uploads: int = Field(64, ge=1)
    """The number of uploads that the API processes of a host receive at the same time. The API refuses more
    with 429. See [Uploads at the same time](security.md#uploads-at-the-same-time)."""
    max_uploads_per_key: int = Field(16, ge=1)
    """The number of uploads of one API key that the API processes of a host receive at the same time. Callers
    without a key count together."""
    max_probes: int = Field(4, ge=1)
    """The number of uploads that the API processes of a host examine at the same time. Each of them can take
    512 MiB of memory. The uploads of one API key get half of the number, or 1."""
    min_free_bytes: int = Field(2**30, ge=0)
    """The space, in bytes, that uploads leave free on the disk that receives them. The API refuses more with
    507."""
    max_pixels: int = Field(3840 * 2160, ge=256)
    """The largest width times height of a clip, and of an image such as a background."""
    max_frames: int = Field(100_000, ge=1)
    """The largest number of frames of a clip."""
    max_duration_s: float = Field(3600.0, gt=0)
    """The longest duration of a clip, in seconds."""
    max_streams: int = Field(16, ge=1)
    """The largest number of streams of pictures, sound and subtitles in the file of a clip. Fonts, covers and
    data do not count. The API checks what the file declares about pixels, frames, duration and streams. The
    worker checks what it decodes. See [Upload checks](security.md#upload-checks)."""
    retention_s: int = Field(86_400, ge=1)
    """The seconds that a job, its events and its files are kept after its end."""

    @property
    def limits(self) -> Limits:
        """The limits of an uploaded clip."""
        return Limits(self.max_pixels, self.max_frames, self.max_duration_s, self.max_streams)

    @property
    def redis_timeout_s(self) -> float:
        """How long a process waits for an answer of Redis, in seconds: a third of the lease, from 1 to 5.

        A process that gives up so early can connect again before its lease lapses.
        """
        return max(1.0, min(5.0, self.lease_ttl_s / 3))

    @property
    def caps(self) -> tuple[int, ...]:
        """The caps on what may wait and what an owner keeps, in the order of `refusal` in `account.lua`."""
        per_key = self.max_waiting_per_key, self.max_kept_jobs, self.max_kept_bytes, self.max_kept_file_bytes
        return self.max_waiting, *per_key
