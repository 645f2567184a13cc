"""The chat engine on transformers' continuous batching: CPU or CUDA, GGUF file or Hugging Face directory.

Importing this imports neither torch nor transformers: the device is pinned before they are.
"""

import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from worker.chat.answer import Answer
from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.jobs.errors import EngineFailed, EngineLost, OutOfMemory
from worker.jobs.prompt import PromptTemplate

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.requests import GenerationOutput

    from worker.chat.loading import LoadedModel
    from worker.chat.manager import StepManager


class TransformersEngine:
    """A ChatEngine that runs `model`, a .gguf file or a directory, on `device` ("cpu" or "cuda").

    `context_length` is the most tokens a sequence may have, prompt and answer together; the cache holds
    `slots` of them. With CUDA graphs transformers works one step ahead: deltas come a step late, and what
    a request still produces after its end is dropped.
    """

    _loaded: "LoadedModel"
    _manager: "StepManager"
    _on_step: OnStep
    _on_broken: OnBroken

    def __init__(self, model: Path, device: str = "cpu", slots: int = 8, context_length: int = 2048) -> None:
        self.slots = slots
        self.context_length = context_length
        self._path = model
        self._device = device
        self._keys = count()
        self._lock = threading.Lock()  # guards the three below, which callers and the engine's thread share
        self._serving = False
        self._running: dict[str, Answer] = {}  # by key: an id may come again while its last one lingers
        self._decided: list[Delta] = []  # last deltas that no output brings; the next step takes them along

    @property
    def prompt_template(self) -> PromptTemplate:
        """How messages become prompts for this model; known once started."""
        return self._loaded.prompt_template

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load, warm up and serve; ModelMissing if there is no model, EngineFailed if it cannot run."""
        from worker.chat.loading import load_model
        from worker.chat.manager import StepManager, batching_config

        self._loaded = load_model(self._path, self._device)
        self.context_length = min(self.context_length, self._loaded.context_length)
        config = batching_config(self._device, self.slots, self.context_length)
        self._manager = StepManager(self._loaded.model, config, self, self._loaded.eos_tokens)
        self._manager.warmup()  # captures CUDA graphs; does nothing on the CPU
        self._on_broken = lambda error: None  # while warming up, a failure is raised from here
        self._serving = True
        self._manager.start()
        try:
            self._warm_up(1, self._manager.batch_tokens)
            self._warm_up(self.slots, self._manager.batch_tokens // self.slots)
        except BaseException:
            self.stop()
            raise
        self._on_step, self._on_broken = on_step, on_broken

    def submit(self, request: ChatRequest) -> None:
        """Take a request; EngineLost if the engine is not serving (any more)."""
        key = str(next(self._keys))
        room = min(request.max_tokens, self.context_length - len(request.prompt)) - len(request.said)
        with self._lock:
            if not self._serving:
                raise EngineLost("the chat engine is not running")
            answer = Answer(request, self.prompt_template.tokenizer, self._loaded.eos_tokens)
            only = self._only_delta(answer, room)
            if only is None:
                self._running[key] = answer
            else:
                self._decided.append(only)
        if only is None:
            self._manager.add(key, request, room)
        self._manager.wake()

    def cancel(self, request_id: str) -> None:
        """End a request as "canceled"; unknown or finished ids are ignored."""
        with self._lock:
            key = next((k for k, answer in self._running.items() if answer.request.id == request_id), None)
            if key is None:
                return
            del self._running[key]
            self._decided.append(Delta(request_id, "", (), "canceled"))
        self._manager.cancel_request(key)

    def stop(self) -> None:
        """End what still runs as "error", stop the thread and let go of the model; not from a callback."""
        if hasattr(self, "_manager"):
            self._manager.stop(hard_stop=True)
            del self._manager, self._loaded

    def before_step(self) -> None:
        """Bring the last deltas that were decided outside of a step (StepListener)."""
        with self._lock:
            decided, self._decided = self._decided, []
        if decided:
            self._on_step(decided)

    def on_outputs(self, outputs: "Sequence[GenerationOutput]") -> None:
        """Turn a step's outputs into deltas (StepListener)."""
        deltas = [delta for output in outputs if (delta := self._advance(output)) is not None]
        if deltas:
            self._on_step(deltas)

    def on_out_of_memory(self, keys: Sequence[str]) -> None:
        """End the requests that a step had no memory for (StepListener)."""
        reason = OutOfMemory("there was not enough memory for this chat beside the others")
        with self._lock:
            answers = [self._running.pop(key, None) for key in keys]
        deltas = [answer.fail(reason) for answer in answers if answer]
        if deltas:
            self._on_step(deltas)

    def on_end(self, error: BaseException | None) -> None:
        """End every request that has not ended, then report the error if there is one (StepListener)."""
        reason = EngineLost(f"the chat engine died: {error}" if error else "the chat engine was stopped")
        with self._lock:
            self._serving = False
            deltas = [*self._decided, *(answer.fail(reason) for answer in self._running.values())]
            self._running, self._decided = {}, []
        try:
            if deltas:
                self._on_step(deltas)
        finally:
            if error is not None:
                self._on_broken(error)

    def _advance(self, output: "GenerationOutput") -> Delta | None:
        """The delta of one output; None if its request has ended, by a stop string or a cancel."""
        with self._lock:
            answer = self._running.get(output.request_id)
        delta = _delta(answer, output) if answer else None
        if delta and delta.finish_reason:
            with self._lock:
                if (
                    self._running.pop(output.request_id, None) is None
                ):  # cancelled just now: one end is enough
                    delta = None
        if (delta is None or delta.finish_reason) and not output.is_finished():
            # A stop string; or one step too many; or a cancel that had overtaken the request on its way in.
            self._manager.cancel_request(output.request_id)
        return delta

    def _only_delta(self, answer: Answer, room: int) -> Delta | None:
        """The delta of a request that takes no step: its prompt is none, or there is no room for a token."""
        size = len(answer.request.prompt)
        if not 1 <= size <= self.context_length:
            reason = f"a prompt must have 1 to {self.context_length} tokens, not {size}"
            return answer.fail(EngineFailed(reason))
        return answer.extend((), complete=True) if room <= 0 else None

    def _warm_up(self, crowd: int, prompt_tokens: int) -> None:
        """Run `crowd` requests at once, greedy and sampled, through all that serving runs."""
        ended: SimpleQueue[Delta] = SimpleQueue()

        def on_step(deltas: Sequence[Delta]) -> None:
            for delta in deltas:
                if delta.finish_reason:
                    ended.put(delta)

        self._on_step = on_step
        prompt = [0] * max(1, min(prompt_tokens, self.context_length - 4))
        for i in range(crowd):
            self.submit(ChatRequest(f"warm-up {i}", prompt, 4, temperature=float(i % 2), top_p=0.9))
        for _ in range(crowd):
            if (delta := ended.get()).finish_reason == "error":
                raise EngineFailed(f"the chat engine failed to warm up: {delta.error}")


def _delta(answer: Answer, output: "GenerationOutput") -> Delta:
    if output.error is not None:
        return answer.fail(EngineFailed(output.error))
    try:
        return answer.extend(output.generated_tokens, output.is_finished())
    except Exception as error:  # tokenizers' DecodeStream may raise; the other requests must not pay for it
        return answer.fail(EngineFailed(f"the answer cannot be decoded: {error}"))
