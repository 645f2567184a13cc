"""The names and attributes of the spans of a model's runs. They have no content of the client."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from webapi.tracing import names
from webapi.tracing.attempts import Attempt
from worker.jobs.errors import Unsupported
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["run_attributes"]

Attributes = dict[str, Any]

#: The tokens that a chat's usage counts: the path of the number, and its attribute.
_USAGE = {
    ("prompt_tokens",): names.GEN_AI_USAGE_INPUT_TOKENS,
    ("completion_tokens",): names.GEN_AI_USAGE_OUTPUT_TOKENS,
    ("prompt_tokens_details", "cached_tokens"): names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    ("completion_tokens_details", "reasoning_tokens"): names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
}


def run_attributes(record: Record, attempt: Attempt, last: bool) -> tuple[str, Attributes]:
    """Return the name and the attributes of the run of the model in this attempt.

    The job's usage and result are those of the `last` attempt.
    """
    describe = _KINDS.get(record.kind)
    return describe(record, attempt, last) if describe else (f"{record.kind} {record.model}", {})


def _chat(record: Record, attempt: Attempt, last: bool) -> tuple[str, Attributes]:
    operation = _operation(record)
    attributes: Attributes = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_PROVIDER_NAME: "stoker",
        names.GEN_AI_REQUEST_MODEL: record.model,
        names.GEN_AI_RESPONSE_ID: record.id,
        names.GEN_AI_RESPONSE_MODEL: record.model,
    }
    parameters = record.parameters
    attributes |= {
        attribute: parameters[name]
        for name, attribute in names.GEN_AI_REQUEST.items()
        if isinstance(parameters.get(name), int | float)
    }
    if attempt.first_output_at is not None:
        waited_s = (attempt.first_output_at - attempt.started_at) / 1e9
        attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = waited_s
    if last:
        attributes |= _usage(record.usage or {}) | _finish_reasons(record.result or {})
    return f"{operation} {record.model}", attributes


def _operation(record: Record) -> str:
    with suppress(Unsupported):
        spec = record.spec
        if isinstance(spec, ChatJob) and spec.prompt is not None:
            return "text_completion"
    return "chat"


def _usage(usage: Mapping[str, Any]) -> Attributes:
    found: Attributes = {}
    for path, attribute in _USAGE.items():
        value: Any = usage
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, int):
            found[attribute] = value
    return found


def _finish_reasons(result: Mapping[str, Any]) -> Attributes:
    choices = result.get("choices") or [result]
    reasons = [str(each["finish_reason"]) for each in choices if each.get("finish_reason")]
    return {names.GEN_AI_RESPONSE_FINISH_REASONS: reasons} if reasons else {}


def _video(record: Record, attempt: Attempt, last: bool) -> tuple[str, Attributes]:
    return f"video {record.model}", {
        names.STOKER_VIDEO_MODEL: record.model,
        names.STOKER_VIDEO_FRAMES: attempt.frames,
        names.STOKER_VIDEO_PADDED_FRAMES: attempt.padded,
        names.STOKER_VIDEO_BATCHES: attempt.batches,
    } | {
        names.STOKER_VIDEO_STAGE_SECONDS.format(stage=stage): seconds
        for stage, seconds in record.stages.get(str(attempt.number), {}).items()
    }


_KINDS: Mapping[str, Callable[[Record, Attempt, bool], tuple[str, Attributes]]] = {
    ChatJob.kind: _chat,
    VideoJob.kind: _video,
}
