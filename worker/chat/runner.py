"""Chat runs: a job's messages into the engine, its deltas into the job's log."""

from collections.abc import Callable, Sequence
from typing import Any

from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.jobs.events import Canceled, Event, Failed, Succeeded, Token
from worker.jobs.ledger import Ledger
from worker.jobs.specs import ChatJob
from worker.outbox import Letter, Outbox
from worker.runs import Run

__all__ = ["ChatRunner"]


class Transcript:
    """One chat's answer as it grows, over all attempts at the job."""

    def __init__(self, run: Run, prompt_tokens: int, text: str, tokens: int) -> None:
        self.run = run
        self._prompt_tokens = prompt_tokens
        self._texts = [text]
        self._logged = self._tokens = tokens

    def letter(self, delta: Delta) -> Letter | None:
        """What the delta means for the job's log: no event yet while its text is held back."""
        self._tokens += delta.tokens
        events: list[Event] = []
        fields: dict[str, Any] = {"done": self._tokens}
        if delta.text:
            self._texts.append(delta.text)
            events.append(Token(delta.text, index=self._logged, count=self._tokens - self._logged))
            self._logged = self._tokens
        if delta.finish_reason:
            ending, outcome = self._ending(delta)
            events.append(ending)
            fields |= outcome
        return self.run.letter(*events, **fields)

    def _ending(self, delta: Delta) -> tuple[Event, dict[str, Any]]:
        prompt, completion = self._prompt_tokens, self._tokens
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if delta.finish_reason == "canceled":
            return Canceled(), {"usage": usage}
        if delta.finish_reason == "error":
            failed = Failed("engine_failed", delta.error or "the engine failed")
            return failed, {"usage": usage, "error": {"code": failed.code, "message": failed.message}}
        result = {"text": "".join(self._texts), "finish_reason": delta.finish_reason}
        return Succeeded(result, usage), {"usage": usage, "result": result}


class ChatRunner:
    """Runs up to `engine.slots` chats at once in the engine's one thread."""

    def __init__(self, engine: ChatEngine, engine_name: str, ledger: Ledger, outbox: Outbox) -> None:
        self.slots = engine.slots
        self.engine_name = engine_name
        self._engine = engine
        self._ledger = ledger
        self._outbox = outbox
        self._transcripts: dict[str, Transcript] = {}

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
        self._engine.start(self._on_step, on_broken)

    def run(self, run: Run) -> None:
        """Put the chat into the engine and wait for its end."""
        transcript, request = self._resumed(run)
        self._transcripts[run.id] = transcript
        run.on_stop = lambda: self._engine.cancel(run.id)
        try:
            self._engine.submit(request)
            run.over.wait()
        finally:
            del self._transcripts[run.id]

    def stop(self) -> None:
        """Stop the engine."""
        self._engine.stop()

    def _resumed(self, run: Run) -> tuple[Transcript, ChatRequest]:
        """The chat from where its last attempt left it: what is in the log is not said again."""
        spec = run.record.spec
        if not isinstance(spec, ChatJob):
            raise TypeError(f"{run.record.id} is not a chat")
        history = self._ledger.events(run.record.id) if run.record.attempt > 1 else []
        said = [event.data for event in history if event.type == "token"]
        text, tokens = "".join(token["text"] for token in said), sum(token["count"] for token in said)
        template = self._engine.prompt_template
        messages = [message.model_dump() for message in spec.messages]
        transcript = Transcript(run, len(template.encode(messages)), text, tokens)
        request = ChatRequest(
            id=run.id,
            prompt=template.encode(messages, continuation=text),
            max_tokens=spec.max_tokens - tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            seed=spec.seed,
            stop=tuple(spec.stop),
        )
        return transcript, request

    def _on_step(self, deltas: Sequence[Delta]) -> None:
        """One step's deltas go to the outbox together."""
        letters = [transcript.letter(d) for d in deltas if (transcript := self._transcripts.get(d.id))]
        self._outbox.put(letter for letter in letters if letter)
