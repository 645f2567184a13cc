"""Jobs, events and a subscriber for the measurement of the ledger."""

import threading
import time
from collections.abc import Iterable

from worker.jobs.cards import WorkerCard
from worker.jobs.events import Event, Succeeded, Token
from worker.jobs.ledger.appends import Append
from worker.jobs.ledger.store import RedisStore
from worker.jobs.readings import EngineStats, GpuMemory
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, validate

__all__ = ["CHAT", "MODEL", "QUEUE", "Listener", "Log", "worker_card"]

MODEL = "scripted"
QUEUE = f"chat.{MODEL}"
CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Tell me a story of the sea. " * 4}]})
GIB = 2**30


def worker_card(number: int, slots: int) -> WorkerCard:
    """Return the card of a ready worker with vLLM on a GPU."""
    gpu = f"GPU-00000000-0000-0000-0000-{number:012}"
    memory = GpuMemory(gpu, 70 * GIB, 71 * GIB, 71 * GIB)
    return WorkerCard(
        name=f"chat-host-{number:04}-1a2b",
        kind="chat",
        host=f"host-{number // 8}",
        pid=1000 + number,
        device=gpu,
        model=MODEL,
        engine="vllm",
        queue=QUEUE,
        slots=slots,
        running=0,
        state="ready",
        warmup_s=60.0,
        gpus=(memory,),
        engine_stats=EngineStats(0.5, 1000 * number, 500 * number, 0),
    )


class Log:
    """The events of one attempt, as its worker appends them: four tokens in each event."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._next = record.events + 1
        self._tokens = 0

    def token(self) -> Append:
        """Return the append of the next tokens."""
        index, self._tokens = self._tokens, self._tokens + 4
        return self._append(Token(" and so the light", index, 4, "1234 5678 910 11213"))

    def end(self) -> Append:
        """Return the append of the terminal event."""
        usage = {"prompt_tokens": 50, "completion_tokens": self._tokens, "total_tokens": 50 + self._tokens}
        return self._append(Succeeded({"text": "and so the light " * 20, "finish_reason": "length"}, usage))

    def _append(self, event: Event) -> Append:
        number, self._next = self._next, self._next + 1
        fields = {"done": self._tokens, "counted": self._tokens}
        claim, attempt = self.record.claim or "", self.record.attempt
        return Append(self.record.id, claim, attempt, number, time.time(), [event], fields)


class Listener:
    """A subscriber to channels, which reads all that comes. It is a context manager."""

    def __init__(self, store: RedisStore, channels: Iterable[str]) -> None:
        self._pubsub = store.client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(*channels)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._pubsub.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._pubsub.get_message(timeout=0.05)
