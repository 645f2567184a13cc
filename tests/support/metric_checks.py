"""The metrics that follow from the logs of all jobs, which Redis must have exactly, whatever happened."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.metrics import raised
from worker.jobs.events import ANSWER, TERMINAL
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.metrics.vllm import ENGINE
from worker.jobs.records import Record

__all__ = ["metric_flaws"]

Json = dict[str, Any]

#: The starts of the names of the series that do not follow from logs.
UNLOGGED = (
    "vllm:inter_token_latency_seconds",
    "vllm:prompt_tokens_total",  # the log of a canceled chat may lack them
    "vllm:prefix_cache",
    "vllm:num_preemptions",
    "stoker_video_seconds_total",
    "stoker_http_",
    "stoker_webhook_",
)

#: The histograms with a value for each chat that has succeeded with tokens.
CHAT_HISTOGRAMS = (
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:request_time_per_output_token_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_params_max_tokens",
)


def metric_flaws(ledger: Ledger, logs: Mapping[str, Sequence[Json]]) -> Sequence[str]:
    """Return the series that differ from what the logs of all jobs in the ledger say."""
    found = raised(ledger)
    expected = _expected({job_id: (ledger.get(job_id), log) for job_id, log in logs.items() if log})
    return [
        f"{name} is {found.get(name, 0)}, the logs say {expected[name]}"
        for name in sorted({*expected, *found})
        if not name.startswith(UNLOGGED) and found.get(name, 0) != expected[name]
    ]


def _expected(jobs: Mapping[str, tuple[Record, Sequence[Json]]]) -> Counter[str]:
    """Return the values of all series that follow from the records and logs of all jobs, as `raised` does."""
    found: Counter[str] = Counter()
    for record, log in jobs.values():
        queue, kinds = record.queue, Counter(event["type"] for event in log)
        found[f"stoker_jobs_submitted_total {queue}"] += 1
        for name in ("stoker_attempts_total", "stoker_job_queue_seconds"):
            found[f"{name} {queue}"] += kinds["started"]
        for event in log:
            if event["type"] == "requeued":
                found[f"stoker_requeues_total {queue} {event['reason']}"] += 1
            if event["type"] in TERMINAL:
                found[f"stoker_job_seconds {record.kind} {event['type']}"] += 1
        for reason in _silences(log):
            found[f"stoker_resume_gap_seconds {queue} {reason}"] += 1
        found += Counter(dict(_chat(record, log) if record.kind == "chat" else _video(record, log)))
    return +found


def _silences(log: Sequence[Json]) -> Iterator[str]:
    """Yield why the stream was silent before each attempt that has gone on with it."""
    reason, adds = "", False
    for event in log:
        if event["type"] in (*ANSWER, "batch"):
            if reason:
                yield reason
            reason, adds = "", True
        elif event["type"] == "requeued":
            reason, adds = event["reason"] if adds or not reason else reason, False


def _chat(record: Record, log: Sequence[Json]) -> Iterator[tuple[str, int]]:
    labels, tokens = f"{record.model} {ENGINE}", record.done
    if record.usage:
        tokens = record.usage["completion_tokens"]
    yield f"vllm:generation_tokens_total {labels}", tokens
    if tokens and (record.usage or any(event["type"] in ANSWER for event in log)):
        yield f"vllm:time_to_first_token_seconds {labels}", 1
    if record.state == "succeeded":
        result = record.result or {}
        yield f"vllm:request_success_total {labels} {result['finish_reason']}", 1
        for name in CHAT_HISTOGRAMS:
            yield f"{name} {labels}", 1
    elif record.terminal:
        reason = {"canceled": "abort", "failed": "error"}[record.state]
        yield f"vllm:request_success_total {labels} {reason}", 1


def _video(record: Record, log: Sequence[Json]) -> Iterator[tuple[str, int]]:
    batches = [event for event in log if event["type"] == "batch"]
    yield f"stoker_video_batches_total {record.queue}", len(batches)
    yield f"stoker_video_frames_total {record.queue}", sum(event["frames"] for event in batches)
    yield f"stoker_video_padded_frames_total {record.queue}", sum(event["padded"] for event in batches)
