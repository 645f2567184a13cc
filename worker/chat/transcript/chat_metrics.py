"""The metrics of one chat, over all attempts at the job."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import sub

from worker.chat.engine import Delta
from worker.jobs.events import LoggedEvent
from worker.jobs.metrics import vllm
from worker.jobs.metrics.metric import Increments
from worker.jobs.records import Record, parse_rfc3339
from worker.jobs.specs import ChatJob

__all__ = ["ChatMetrics"]

#: The finish reasons that vLLM's engine does not know, as it calls them.
FINISHED_REASONS = {"tool_calls": "stop"}

#: Seconds between the increments of a chat. To send them with each event would cost more than the event.
INTERVAL_S = 1.0


class ChatMetrics:
    """Measures a chat from the deltas of its attempt, and from what earlier attempts have logged.

    Its times are those of the monotonic clock. The clock of Redis, which counts in the record and in the log,
    is `ahead_s` ahead of it. `history` are the events that earlier attempts have logged.
    """

    def __init__(
        self,
        record: Record,
        spec: ChatJob,
        prompt_tokens: int,
        history: Sequence[LoggedEvent],
        ahead_s: float,
    ) -> None:
        first = next((event for event in history if event.data.get("count")), None)
        self._labels = record.model, vllm.ENGINE
        self._max_tokens = spec.max_tokens
        self._prompt_tokens = prompt_tokens
        self._counted_tokens = record.counted
        self._submitted_at = record.created_at - ahead_s
        self._started_at = (record.started_at or record.created_at) - ahead_s
        self._first_token_at = None if first is None else parse_rfc3339(first.data["time"]) - ahead_s
        #: When the last delta has come.
        self._now = self._started_at
        #: When the next increments are due.
        self._due_at = self._now
        #: When each request has had the last token whose latency is counted, and all later ones.
        self._token_times: dict[str, list[float]] = defaultdict(list)
        self._increments = Increments()

    def add(self, deltas: Iterable[tuple[Delta, float]]) -> None:
        """Measure deltas, which have come at these times."""
        for delta, now in deltas:
            self._now = now
            if delta.token_ids:
                self._token_times[delta.id].append(now)
                if self._first_token_at is None:
                    self._add_first_token()

    def add_end(self, tokens: int, choices: int, finish_reason: str) -> None:
        """Measure the whole chat, which has succeeded with so many tokens in all its choices."""
        found, labels, first = self._increments, self._labels, self._first_token_at
        found.count(vllm.REQUEST_SUCCESS, *labels, FINISHED_REASONS.get(finish_reason, finish_reason))
        found.observe(vllm.E2E_SECONDS, self._now - self._submitted_at, *labels)
        found.observe(vllm.QUEUE_SECONDS, self._started_at - self._submitted_at, *labels)
        if first is not None:
            decode_s, later_tokens = self._now - first, tokens / choices - 1
            found.observe(vllm.PREFILL_SECONDS, first - self._started_at, *labels)
            found.observe(vllm.DECODE_SECONDS, decode_s, *labels)
            mean_s = decode_s / later_tokens if later_tokens > 0 else 0
            found.observe(vllm.TIME_PER_OUTPUT_TOKEN_SECONDS, mean_s, *labels)
        found.observe(vllm.REQUEST_PROMPT_TOKENS, self._prompt_tokens, *labels)
        found.observe(vllm.REQUEST_GENERATION_TOKENS, tokens, *labels)
        found.observe(vllm.PARAMS_MAX_TOKENS, self._max_tokens, *labels)

    @property
    def due(self) -> bool:
        """True if it is time to send increments with the next events."""
        return self._now >= self._due_at

    def take(self, tokens: int) -> Increments:
        """Return the increments since the last call, up to `tokens` tokens of the answer over all attempts.

        The record must note in the same step that so many are counted.
        """
        found, self._increments = self._increments, Increments()
        found.count(vllm.GENERATION_TOKENS, *self._labels, by=tokens - self._counted_tokens)
        self._counted_tokens, self._due_at = tokens, self._now + INTERVAL_S
        for times in self._token_times.values():
            found.observe_all(vllm.INTER_TOKEN_SECONDS, [*map(sub, times[1:], times)], *self._labels)
            del times[:-1]
        return found

    def _add_first_token(self) -> None:
        self._first_token_at = self._now
        waited_s = self._now - self._submitted_at
        self._increments.count(vllm.PROMPT_TOKENS, *self._labels, by=self._prompt_tokens)
        self._increments.observe(vllm.TIME_TO_FIRST_TOKEN_SECONDS, waited_s, *self._labels)
