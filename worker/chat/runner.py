"""Chat runs: a job's messages into the engine, its deltas into the job's log."""

import time
from collections.abc import Callable, Sequence

from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.chat.transcript import Transcript
from worker.jobs.errors import EngineDied
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import ChatJob
from worker.runs.outbox import Outbox
from worker.runs.run import Run

__all__ = ["ChatRunner"]

#: How long an engine with chats may bring no token for any of them, however many are canceled meanwhile: far
#: longer than a step takes, or reading a long prompt on a CPU.
HANG_S = 600.0


class ChatRunner:
    """Runs up to `engine.slots` chats at once in the engine's one thread."""

    def __init__(self, engine: ChatEngine, engine_name: str, ledger: Ledger, outbox: Outbox) -> None:
        self.slots = engine.slots
        self.engine_name = engine_name
        self._engine = engine
        self._ledger = ledger
        self._outbox = outbox
        self._transcripts: dict[str, Transcript] = {}
        self._silent_since = 0.0  # while there are chats
        self._silent_s = 0.0  # when there were some the last time

    @property
    def context_length(self) -> int:
        """Prompt and answer together, in tokens."""
        return self._engine.context_length

    @property
    def prompt(self) -> str:
        """The model's prompt template, serialised."""
        return self._engine.prompt_template.to_json()

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up."""
        self._on_broken = on_broken
        self._engine.start(self._on_step, on_broken)

    def run_job(self, run: Run) -> None:
        """Put the chat into the engine and wait for its end."""
        transcript, request = self._resumed(run)
        if not self._transcripts:
            self._silent_since = time.monotonic() - self._silent_s
        self._transcripts[run.id] = transcript
        run.on_stop = lambda: self._engine.cancel(run.id)
        try:
            self._engine.submit(request)
            if run.stopping.is_set():  # perhaps before there was a request to cancel
                run.on_stop()
            self._wait(run)
        finally:
            del self._transcripts[run.id]
            if not self._transcripts:
                self._silent_s = time.monotonic() - self._silent_since

    def _wait(self, run: Run) -> None:
        """Until the chat has ended; an engine that hangs meanwhile ends the worker, which hands it back."""
        while (left_s := self._silent_since + HANG_S - time.monotonic()) > 0:
            if run.over.wait(left_s):
                return
        self._on_broken(EngineDied(f"the chat engine has brought nothing for {HANG_S:.0f} s"))
        run.over.wait()

    def stop(self) -> None:
        """Stop the engine."""
        self._engine.stop()

    def _resumed(self, run: Run) -> tuple[Transcript, ChatRequest]:
        """The chat from where its last attempt left it: what is in the log is not said again."""
        spec = run.record.spec
        if not isinstance(spec, ChatJob):
            raise TypeError(f"{run.record.id} is not a chat")
        history = self._ledger.events(run.record.id) if run.record.attempt > 1 else []
        logged = [event for event in history if event.type == "token"]
        text = "".join(event.data["text"] for event in logged)
        said = tuple(int(token) for event in logged for token in event.resume.split())
        prompt = self._engine.prompt_template.encode([message.model_dump() for message in spec.messages])
        transcript = Transcript(run, len(prompt), text, len(said))
        request = ChatRequest(
            id=run.id,
            prompt=prompt,
            max_tokens=spec.max_tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            seed=spec.seed,
            stop=tuple(spec.stop),
            generated_ids=said,
            min_tokens=spec.min_tokens,
            ignore_eos=spec.ignore_eos,
        )
        return transcript, request

    def _on_step(self, deltas: Sequence[Delta]) -> None:
        """One step's deltas go to the outbox together.

        What a lost engine leaves is not ended: the worker ends, and hands it back for another to go on with.
        """
        if any(delta.token_ids for delta in deltas):  # a cancel's end needs no engine that goes
            self._silent_since, self._silent_s = time.monotonic(), 0.0
        told: list[Transcript] = []
        urgent: list[Transcript] = []
        for delta in deltas:
            transcript = self._transcripts.get(delta.id)
            if transcript and not isinstance(delta.error, EngineDied):
                if transcript.add(delta):
                    urgent.append(transcript)
                elif transcript.begins:
                    told.append(transcript)
        self._outbox.put(told, urgent)
