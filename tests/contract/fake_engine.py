"""A chat engine without a model: it says what it was told to, at the speed it was told to."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.chat.detokenizer import StopStrings
from worker.chat.engine import ChatRequest, Delta, FinishReason, OnBroken, OnStep
from worker.jobs.errors import EngineFailed
from worker.jobs.prompt import PromptTemplate

#: A tokenizer of whole words, for prompts in tests that have no model files.
WORDS_JSON = (
    '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
    '"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,'
    '"model":{"type":"WordLevel","vocab":{"?":0,"user":1,"assistant":2,"system":3},"unk_token":"?"}}'
)


@dataclass(slots=True)
class _Running:
    request: ChatRequest
    words: Sequence[str]
    stop: StopStrings
    said: int = 0


class FakeEngine:
    """A word a step for each of up to `slots` requests, first come, first served.

    A request's script is `scripts[request.id]`, else `words`. With `step_s` None nothing moves until
    `step()` is called, in the caller's thread; otherwise a thread steps every `step_s` seconds while there
    is work. Greedy, always: temperature, top-p and seed change nothing.
    """

    def __init__(
        self,
        words: Sequence[str] = ("Tokyo", " is", " the", " capital", "."),
        scripts: Mapping[str, Sequence[str]] | None = None,
        slots: int = 4,
        step_s: float | None = None,
        context_length: int = 2048,
    ) -> None:
        self.slots = slots
        self.context_length = context_length
        self.prompt_template = PromptTemplate(
            WORDS_JSON, "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
        )
        self.submitted: list[ChatRequest] = []
        self._words = words
        self._scripts = scripts or {}
        self._step_s = step_s
        self._running: dict[str, _Running] = {}
        self._decided: list[Delta] = []
        self._broken: BaseException | None = None
        self._serving = False
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        self._on_step, self._on_broken = on_step, on_broken
        self._serving = True
        if self._step_s is not None:
            self._thread = threading.Thread(target=self._run, args=(self._step_s,), name="fake-engine")
            self._thread.start()

    def submit(self, request: ChatRequest) -> None:
        with self._changed:
            if not self._serving:
                raise EngineFailed("the chat engine is not running")
            self.submitted.append(request)
            room = self.context_length - len(request.prompt)
            if not request.prompt or room < 0:
                self._decided.append(Delta(request.id, "", 0, "error", "no such prompt"))
            elif min(request.max_tokens, room) <= 0:
                self._decided.append(Delta(request.id, "", 0, "length"))
            else:
                words = self._scripts.get(request.id, self._words)
                self._running[request.id] = _Running(request, words, StopStrings(request.stop))
            self._changed.notify_all()

    def cancel(self, request_id: str) -> None:
        with self._changed:
            if self._running.pop(request_id, None) is not None:
                self._decided.append(Delta(request_id, "", 0, "canceled"))
                self._changed.notify_all()

    def break_down(self, error: BaseException) -> None:
        """Die at the next step, as an engine does whose GPU fell off the bus."""
        with self._changed:
            self._broken = error
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._end("the chat engine was stopped")
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def step(self) -> Sequence[Delta]:
        """One step of all that runs; the deltas that on_step got."""
        with self._changed:
            if self._broken is not None and self._serving:
                self._end(f"the chat engine died: {self._broken}")
                self._on_broken(self._broken)
                return []
            deltas, self._decided = self._decided, []
            deltas += [self._advance(running) for running in list(self._running.values())[: self.slots]]
            if deltas:
                self._on_step(deltas)
            return deltas

    def _advance(self, running: _Running) -> Delta:
        """One word more; the end-of-sequence token is the step after the last."""
        request = running.request
        word = running.words[running.said] if running.said < len(running.words) else None
        running.said += 1
        text = running.stop.push(word or "")
        room = min(request.max_tokens, self.context_length - len(request.prompt))
        if word is not None and not running.stop.found and running.said < room:
            return Delta(request.id, text, 1)
        del self._running[request.id]
        reason: FinishReason = "stop" if word is None or running.stop.found else "length"
        return Delta(request.id, text + running.stop.finish(), 1, reason)

    def _end(self, error: str) -> None:
        lost = [Delta(id_, "", 0, "error", error) for id_ in self._running]
        deltas, self._decided, self._running = self._decided + lost, [], {}
        self._serving = False
        if deltas:
            self._on_step(deltas)

    def _run(self, step_s: float) -> None:
        with self._changed:
            while self._serving:
                if not (self._running or self._decided or self._broken):
                    self._changed.wait()
                elif not self._changed.wait_for(lambda: not self._serving, step_s):
                    self.step()
