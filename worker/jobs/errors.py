"""All errors that Stoker raises on purpose, under one root."""

from typing import Self


class StokerError(Exception):
    """Root of all errors that Stoker raises. `code` is the stable name that clients see."""

    code = "internal_error"
    #: Whether the text may quote what a client has sent or what a model has said. Logs then leave it out.
    quotes_client = False


class InvalidInput(StokerError):
    """The request cannot be accepted. `field` names the part of the request at fault."""

    code = "invalid_input"
    quotes_client = True

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(InvalidInput):
    """The request has more bytes than the settings allow."""

    code = "too_large"


class ClientTooSlow(StokerError):
    """The client sends the body of its request too slowly."""

    code = "request_timeout"


class TooManyStreams(StokerError):
    """The key has as many open event streams as the settings allow. `retry_after_s` is in seconds."""

    code = "too_many_streams"
    retry_after_s = 5


class Unauthorized(StokerError):
    """The request has no credentials that are valid now. The message does not reveal which keys exist."""

    code = "unauthorized"

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "Send a valid API key as `Authorization: Bearer …`; the command line reads STOKER_API_KEY."
        )


class MistypedKey(Unauthorized):
    """The checksum in the text of the API key is wrong. This tells nothing about the keys that exist."""

    def __init__(self) -> None:
        super().__init__("The API key has a typing error, or a part of it is missing: its checksum is wrong.")


class Forbidden(StokerError):
    """The caller's API key is valid, but it lacks the scope of this route."""

    code = "forbidden"


class KeyNotFound(StokerError):
    """No API key has this id."""

    code = "not_found"


class KeyRevoked(StokerError):
    """The API key was revoked, so it gets no new secret."""

    code = "conflict"


class ModelNotFound(InvalidInput):
    """No worker has served a model of this name."""

    code = "model_not_found"


class KindNotServed(StokerError):
    """This installation serves no jobs of this kind."""

    code = "kind_not_served"


class JobNotFound(StokerError):
    """No job has this id, or the job was deleted."""

    code = "not_found"


class FileNotKept(StokerError):
    """No file has this id, or the file was deleted."""

    code = "not_found"


class BatchNotFound(StokerError):
    """No batch has this id, or the batch was deleted."""

    code = "not_found"


class QueueNotFound(StokerError):
    """No queue has this name."""

    code = "not_found"


class WorkerNotFound(StokerError):
    """No live worker has this name."""

    code = "not_found"


class InvalidJobId(JobNotFound):
    """The text is not a job id, so no job has it."""


class JobConflict(StokerError):
    """The job is not in a state that allows this."""

    code = "conflict"


class PromptTooLong(InvalidInput):
    """The prompt leaves no room for an answer in the model's context."""

    code = "context_length_exceeded"


class PreviousResponseNotFound(InvalidInput):
    """The caller has no stored response of this id, so no other one can continue its conversation."""

    code = "previous_response_not_found"


class IdempotencyConflict(InvalidInput):
    """An earlier, different request used the same Idempotency-Key."""

    code = "idempotency_key_reused"

    def __init__(self, message: str) -> None:
        super().__init__("Idempotency-Key", message)


class QueueFull(StokerError):
    """As many jobs wait as the settings allow. `retry_after_s` is the estimated wait in seconds."""

    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageFull(QueueFull):
    """The caller's jobs keep as many bytes as the settings allow, and no ended job can make room."""

    code = "storage_full"


class TooManyUploads(QueueFull):
    """As many uploads arrive at the same time as the settings allow."""

    code = "too_many_uploads"


class NeedsExclusiveWorker(StokerError):
    """The job has only its last attempt left, which must not endanger other jobs in the same worker."""

    code = "must_run_alone"


class NotReady(StokerError):
    """Redis is away, or no worker has served this model yet."""

    code = "not_ready"


class ModelUnavailable(NotReady):
    """No worker serves the model any more, and the request does not say that its job may wait for one."""

    code = "model_unavailable"


class NotReplicated(NotReady):
    """Too few replicas of Redis have the writes that the client waits for. A failover could lose them."""


class SubmitOutcomeUnknown(NotReady):
    """Redis went away during the submit, so nobody knows whether the job was accepted."""


class JobFailed(StokerError):
    """Root of the errors that end a running job as `failed`. `code` goes into the terminal event."""

    code = "job_failed"
    quotes_client = True


class BadVideo(JobFailed):
    """The clip cannot be decoded to its end."""

    code = "bad_video"


class EngineFailed(JobFailed):
    """The engine could not finish this job."""

    code = "engine_failed"


class EngineDied(EngineFailed):
    """The engine has died and ended this attempt. Another worker continues the job."""

    quotes_client = False

    @classmethod
    def because_of(cls, error: BaseException | None) -> Self:
        """Return the end of a chat engine that this error has broken, or that was stopped."""
        died = cls(f"the chat engine died: {error}" if error else "the chat engine was stopped")
        died.quotes_client = error is not None
        return died


class ModelFailed(JobFailed):
    """The model of the job raised an error, or it returned something that its interface does not allow."""

    code = "model_failed"


class InvalidOptions(JobFailed):
    """The worker's model refuses options that the API has checked against another version of the model."""

    code = "invalid_options"


class InvalidStructure(JobFailed):
    """The schema, regular expression or grammar of a structured answer cannot be used."""

    code = "invalid_structured_outputs"


class OutOfMemory(JobFailed):
    """The device or the machine has too little memory for this job. The worker continues."""

    code = "out_of_memory"
    quotes_client = False


class DiskFull(JobFailed):
    """The disk has no space for the job's files."""

    code = "disk_full"
    quotes_client = False


class MediaUnavailable(JobFailed):
    """The media store does not answer, or it refuses the request."""

    code = "media_unavailable"
    quotes_client = False


class Unsupported(JobFailed):
    """Stored data needs a newer version of Stoker, or a job needs what its worker's engine lacks."""

    code = "unsupported"


class ModelMissing(StokerError):
    """A model file is missing, its hash is wrong, or the model cannot be loaded."""

    code = "model_missing"


class DeliveryFailed(StokerError):
    """A webhook's receiver cannot be reached, or its address is not allowed."""

    code = "delivery_failed"


class ConfigurationError(StokerError):
    """A setting or flag has a value that cannot work."""

    code = "bad_settings"


class NoDevice(StokerError):
    """No GPU is free, or the requested GPU does not exist."""

    code = "no_device"
