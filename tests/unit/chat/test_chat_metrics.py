import json
from typing import Any

import pytest

from worker.chat.engine import Delta
from worker.chat.transcript.chat_metrics import INTERVAL_S, ChatMetrics
from worker.jobs.events import LoggedEvent
from worker.jobs.metrics import vllm
from worker.jobs.metrics.metric import Histogram, Increments
from worker.jobs.metrics.series import Distribution, distributions, grouped
from worker.jobs.records import Record, parse_rfc3339, rfc3339
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 7})
#: The clock of Redis is so far ahead of the monotonic clock.
AHEAD_S = 1000.0
LABELS = ("fake", "0")


def metrics(*history: LoggedEvent, **fields: Any) -> ChatMetrics:
    """Return the metrics of a chat with a prompt of 3 tokens, submitted at 10 s and started at 12 s."""
    record = {"kind": "chat", "queue": "chat.fake", "spec": "{}", "state": "running", "attempt": "1"}
    record |= {"created_at": "1010", "started_at": "1012", "events": "2", **fields}
    return ChatMetrics(Record.from_hash("a", record), CHAT, 3, history, AHEAD_S)


def delta(now: float, tokens: int = 1, name: str = "a") -> tuple[Delta, float]:
    return Delta(name, "x", (0,) * tokens), now


def seen(increments: Increments, histogram: Histogram) -> Distribution:
    """Return the distribution of the chat's series."""
    fields = grouped({field: str(amount) for field, amount in increments.items()})[histogram.name]
    return dict(distributions(histogram, fields))[LABELS]


def count(increments: Increments, name: str) -> int:
    return sum(amount for field, amount in increments.items() if field.startswith(f"{name} "))


def test_chat_metrics_measure_the_parts_of_a_chat() -> None:
    chat = metrics()
    chat.add([delta(13.0), delta(13.25), delta(13.25, tokens=0), delta(14.0)])
    chat.add_end(3, 1, "tool_calls")
    found = chat.take(3)
    expected = {
        vllm.TIME_TO_FIRST_TOKEN_SECONDS: 3.0,
        vllm.QUEUE_SECONDS: 2.0,
        vllm.PREFILL_SECONDS: 1.0,
        vllm.DECODE_SECONDS: 1.0,
        vllm.E2E_SECONDS: 4.0,
        vllm.TIME_PER_OUTPUT_TOKEN_SECONDS: 0.5,
        vllm.INTER_TOKEN_SECONDS: 0.25 + 0.75,
        vllm.REQUEST_PROMPT_TOKENS: 3,
        vllm.REQUEST_GENERATION_TOKENS: 3,
        vllm.PARAMS_MAX_TOKENS: 7,
    }
    assert {metric: seen(found, metric).sum for metric in expected} == expected
    assert dict(seen(found, vllm.INTER_TOKEN_SECONDS).buckets)["0.3"] == 1
    assert found["vllm:request_success_total fake 0 stop"] == 1
    assert count(found, "vllm:prompt_tokens_total") == count(found, "vllm:generation_tokens_total") == 3


def test_chat_metrics_count_each_token_once_over_attempts_and_intervals() -> None:
    first = LoggedEvent.from_json(json.dumps({"n": 3, "type": "token", "count": 2, "time": rfc3339(1013)}))
    chat = metrics(first, counted="1")
    chat.add([delta(40.0), delta(40.5)])
    assert chat.due
    found = chat.take(4)
    assert count(found, "vllm:generation_tokens_total") == 3
    assert count(found, "vllm:prompt_tokens_total") == 0
    assert seen(found, vllm.INTER_TOKEN_SECONDS).buckets[-1] == ("+Inf", 1)
    chat.add([delta(40.5 + INTERVAL_S / 2)])
    early = chat.due
    chat.add([delta(40.5 + INTERVAL_S)])
    assert (early, chat.due) == (False, True)
    chat.add_end(6, 1, "length")
    found = chat.take(6)
    assert count(found, "vllm:generation_tokens_total") == 2
    assert (seen(found, vllm.INTER_TOKEN_SECONDS).buckets[-1], INTERVAL_S) == (("+Inf", 2), 1.0)
    assert seen(found, vllm.DECODE_SECONDS).sum == pytest.approx(40.5 + INTERVAL_S - 13)
    assert vllm.TIME_TO_FIRST_TOKEN_SECONDS.name not in str(found)


def test_chat_metrics_of_choices_measure_each_of_them() -> None:
    chat = metrics()
    chat.add(
        [delta(13.0, name="a.0"), delta(13.5, name="a.1"), delta(14.0, name="a.0"), delta(15.5, name="a.1")]
    )
    chat.add_end(4, 2, "stop")
    found = chat.take(4)
    assert seen(found, vllm.INTER_TOKEN_SECONDS).sum == 1.0 + 2.0
    assert seen(found, vllm.TIME_TO_FIRST_TOKEN_SECONDS)[1] == 3.0
    assert seen(found, vllm.TIME_PER_OUTPUT_TOKEN_SECONDS).sum == 2.5


def test_chat_metrics_of_an_answer_without_tokens() -> None:
    chat = metrics()
    chat.add([delta(13.0, tokens=0)])
    chat.add_end(0, 1, "length")
    found = chat.take(0)
    assert seen(found, vllm.E2E_SECONDS).sum == 3.0
    assert vllm.DECODE_SECONDS.name not in str(found)


def test_times_of_events_can_be_read_back() -> None:
    assert parse_rfc3339(rfc3339(1013.25)) == 1013.25
