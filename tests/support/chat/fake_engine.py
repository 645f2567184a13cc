"""A chat engine without a model: it answers with given words at a given speed."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.chat.detokenizer import StopStrings
from worker.chat.engine import ChatRequest, Delta, FinishReason, OnBroken, OnStep
from worker.jobs.chat.logprobs import TokenLogprob
from worker.jobs.chat.sampling import COMMON_PARAMETERS
from worker.jobs.errors import EngineDied, EngineFailed
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats

#: A tokenizer that splits text into words, for tests without model files.
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
    next: int


def _logprobs(request: ChatRequest, word: str) -> list[TokenLogprob]:
    entry: TokenLogprob = {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}
    return [entry] if request.sampling.logprobs else []


class FakeEngine:
    """An engine that gives each of up to `slots` requests one word per step, first come, first served.

    The words of a request are `script(request)` if there is a script, else `scripts[request.id]`, else
    `words`. The id of a token is the index of its word, and the end-of-sequence token is the next index. A
    resumed answer continues after `request.generated_ids`. The engine ignores temperature, top-p and seed.

    If `step_s` is None, the engine steps only when `step()` is called, in the caller's thread. Otherwise a
    thread steps every `step_s` seconds while there is work.
    """

    def __init__(
        self,
        words: Sequence[str] = ("Tokyo", " is", " the", " capital", "."),
        scripts: Mapping[str, Sequence[str]] | None = None,
        slots: int = 4,
        step_s: float | None = None,
        context_length: int = 2048,
        script: Callable[[ChatRequest], Sequence[str]] | None = None,
    ) -> None:
        self.slots = slots
        self.supports = COMMON_PARAMETERS
        self.context_length = context_length
        self.prompt_template = PromptTemplate(
            WORDS_JSON, "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
        )
        self.submitted: list[ChatRequest] = []
        #: How many tokens of each prompt the engine says to have found in its cache.
        self.cached_tokens = 0
        self._script = script or (lambda request: (scripts or {}).get(request.id, words))
        self._step_s = step_s
        self._running: dict[str, _Running] = {}
        self._pending_finishes: list[Delta] = []
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
                raise EngineDied("the chat engine is not running")
            self.submitted.append(request)
            running = self._begin(request)
            if not 1 <= len(request.prompt) <= self.context_length:
                error = EngineFailed("no such prompt")
                self._pending_finishes.append(Delta(request.id, "", (), "error", error))
            elif running.next >= self._limit(request):
                self._pending_finishes.append(Delta(request.id, running.stop.finish(), (), "length"))
            else:
                self._running[request.id] = running
            self._changed.notify_all()

    def cancel(self, request_id: str) -> None:
        with self._changed:
            if self._running.pop(request_id, None) is not None:
                self._pending_finishes.append(Delta(request_id, "", (), "canceled"))
                self._changed.notify_all()

    def stats(self) -> EngineStats:
        """Count the prompts as queries, and let each running request hold an equal part of the cache."""
        with self._changed:
            queries = sum(len([*each.prompt, *each.generated_ids]) for each in self.submitted)
            usage = min(len(self._running) / self.slots, 1.0)
            return EngineStats(usage, queries, self.cached_tokens * len(self.submitted))

    def break_down(self, error: BaseException) -> None:
        """Make the engine die at its next step, like an engine that lost its GPU."""
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
        """Run one step and return the deltas that `on_step` got."""
        with self._changed:
            if self._broken is not None and self._serving:
                self._end(f"the chat engine died: {self._broken}")
                self._on_broken(self._broken)
                return []
            deltas, self._pending_finishes = self._pending_finishes, []
            deltas += [self._advance(running) for running in list(self._running.values())[: self.slots]]
            if deltas:
                self._on_step(deltas)
            return deltas

    def _begin(self, request: ChatRequest) -> _Running:
        """Start a request after its `generated_ids`, whose last words may be held back."""
        words, stop = self._script(request), StopStrings(request.sampling.stop)
        for token in request.generated_ids:
            if token >= request.sampling.min_tokens:
                stop.push(words[token] if token < len(words) else "")
        return _Running(request, words, stop, len(request.generated_ids))

    def _limit(self, request: ChatRequest) -> int:
        """Return the most tokens that the answer may have."""
        return min(request.sampling.max_tokens, self.context_length - len(request.prompt))

    def _advance(self, running: _Running) -> Delta:
        """Return the delta of the next word. After the last word every token is an end-of-sequence token."""
        request, token = running.request, running.next
        word = running.words[token] if token < len(running.words) else ""
        running.next += 1
        early = running.next <= request.sampling.min_tokens
        text = word if early else running.stop.push(word)
        ended = token >= len(running.words) and not early and not request.sampling.ignore_eos
        cached = self.cached_tokens if token == len(request.generated_ids) else 0
        logprobs = _logprobs(request, word)
        if not (ended or running.stop.found) and running.next < self._limit(request):
            return Delta(request.id, text, (token,), logprobs=logprobs, cached_tokens=cached)
        del self._running[request.id]
        reason: FinishReason = "stop" if ended or running.stop.found else "length"
        last = text + running.stop.finish()
        return Delta(request.id, last, (token,), reason, logprobs=logprobs, cached_tokens=cached)

    def _end(self, reason: str) -> None:
        error = EngineDied(reason)
        lost = [Delta(id_, "", (), "error", error) for id_ in self._running]
        deltas, self._pending_finishes, self._running = self._pending_finishes + lost, [], {}
        self._serving = False
        if deltas:
            self._on_step(deltas)

    def _run(self, step_s: float) -> None:
        due = time.monotonic()
        with self._changed:
            while self._serving:
                if not (self._running or self._pending_finishes or self._broken):
                    self._changed.wait()
                    due = time.monotonic() + step_s
                    continue
                left_s = max(1e-4, due - time.monotonic())  # never 0, so that `submit` can get the lock
                if not self._changed.wait_for(lambda: not self._serving, left_s):
                    self.step()
                    due += step_s  # like a device, which does not wait for its listener
