"""The settings of files and batches."""

from pydantic import ConfigDict, Field

from worker.jobs.settings.area import Area

__all__ = ["Batches"]


class Batches(Area):
    """The settings of files and batches."""

    model_config = ConfigDict(title="Files and batches")

    file_retention_s: int = Field(2_592_000, ge=1)
    """The seconds that a file is kept after its upload, unless the upload has its own `expires_after`. Output
    files and ended batches are kept so long after the end of the batch. See [Files](batches.md#files)."""
    max_file_bytes: int = Field(200 * 2**20, ge=1)
    """The largest size of one uploaded file of `/v1/files`, in bytes."""
    max_files_per_key: int = Field(1000, ge=1)
    """The number of files that one API key may keep. The API refuses more uploads with 429."""
    max_files_bytes_per_key: int = Field(2 * 2**30, ge=1)
    """The bytes that the files of one API key may have together. The API refuses more uploads with 429."""
    max_batches_per_key: int = Field(100, ge=1)
    """The number of unfinished batches of one API key, and of ended ones that are kept for it."""
    max_batch_lines: int = Field(50_000, ge=1)
    """The number of requests in one batch."""
    batch_waiting: int = Field(64, ge=1)
    """The number of requests of one API key's batches that wait in queues at the same time. They take at most
    half of the jobs that the key may have waiting. See [How a batch runs](batches.md#how-a-batch-runs)."""
