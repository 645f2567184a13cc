"""The chat engine on transformers' continuous batching: CPU or CUDA, GGUF file or Hugging Face directory.

Importing this imports neither torch nor transformers: the device is pinned before they are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.chat.request_tracker import RequestTracker
from worker.chat.warmup import WarmUp
from worker.jobs.errors import EngineDied, EngineFailed, OutOfMemory
from worker.jobs.prompt import PromptTemplate

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.requests import GenerationOutput

    from worker.chat.checkpoint import LoadedModel
    from worker.chat.transformers_engine.manager import StepManager


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
        self._answers = RequestTracker()

    @property
    def prompt_template(self) -> PromptTemplate:
        """How messages become prompts for this model; known once started."""
        return self._loaded.prompt_template

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load, warm up and serve; ModelMissing if there is no model, EngineFailed if it cannot run."""
        from worker.chat.checkpoint import load_model
        from worker.chat.transformers_engine.manager import StepManager, batching_config

        self._loaded = load_model(self._path, self._device)
        files = self._loaded.files
        self.context_length = min(self.context_length, files.context_length)
        config = batching_config(self._device, self.slots, self.context_length)
        self._manager = StepManager(self._loaded.model, config, self, files.eos_tokens)
        self._manager.warmup()  # captures CUDA graphs; does nothing on the CPU
        warmup = WarmUp()  # while warming up, a failure is raised from here
        self._on_step, self._on_broken = warmup.on_step, warmup.on_broken
        self._answers.open(files, self.context_length)
        self._manager.start()
        step_tokens = self._manager.batch_tokens
        alone, full = self._crowd(1, step_tokens), self._crowd(self.slots, step_tokens // self.slots)
        warmup.run_all(self, [alone, full])
        self._on_step, self._on_broken = on_step, on_broken
        if not self._answers.serving:
            raise EngineFailed("the chat engine died as soon as it was warm")

    def submit(self, request: ChatRequest) -> None:
        """Take a request; EngineDied if the engine is not serving (any more)."""
        ticket = self._answers.admit(request)
        if ticket is not None:
            self._manager.add(ticket.key, request, ticket.room)
        self._manager.wake()

    def cancel(self, request_id: str) -> None:
        """End a request as "canceled"; unknown or finished ids are ignored."""
        key = self._answers.cancel(request_id)
        if key is not None:
            self._manager.cancel_request(key)

    def stop(self) -> None:
        """End what still runs as "error", stop the thread and let go of the model; not from a callback."""
        if hasattr(self, "_manager"):
            self._manager.stop(hard_stop=True)
            del self._manager, self._loaded

    def before_step(self) -> None:
        """Bring the last deltas that were decided outside of a step (StepListener)."""
        if decided := self._answers.take_decided():
            self._on_step(decided)

    def on_outputs(self, outputs: "Sequence[GenerationOutput]") -> None:
        """Turn a step's outputs into deltas (StepListener)."""
        deltas = [delta for output in outputs if (delta := self._advance(output)) is not None]
        if deltas:
            self._on_step(deltas)

    def on_out_of_memory(self, keys: Sequence[str]) -> None:
        """End the requests that a step had no memory for (StepListener)."""
        reason = OutOfMemory("there was not enough memory for this chat beside the others")
        if deltas := [delta for key in keys if (delta := self._answers.fail(key, reason))]:
            self._on_step(deltas)

    def on_end(self, error: BaseException | None) -> None:
        """End every request that has not ended, then report the error if there is one (StepListener)."""
        reason = f"the chat engine died: {error}" if error else "the chat engine was stopped"
        try:
            if deltas := self._answers.close(EngineDied(reason)):
                self._on_step(deltas)
        finally:
            if error is not None:
                self._on_broken(error)

    def _advance(self, output: "GenerationOutput") -> Delta | None:
        """The delta of one output; None if its request has ended, by a stop string or a cancel."""
        answer, delta = self._answers.get(output.request_id), None
        if output.error is not None:
            delta = self._answers.fail(output.request_id, EngineFailed(output.error))
        elif answer is not None:
            tokens = output.generated_tokens[answer.read :]
            delta = self._answers.extend(output.request_id, answer, tokens, output.is_finished())
        if (delta is None or delta.finish_reason) and not output.is_finished():
            # A stop string; or one step too many; or a cancel that had overtaken the request on its way in.
            self._manager.cancel_request(output.request_id)
        return delta

    def _crowd(self, size: int, prompt_tokens: int) -> list[ChatRequest]:
        """`size` requests, greedy and sampled, for all that serving runs."""
        prompt = [0] * max(1, min(prompt_tokens, self.context_length - 4))
        return [ChatRequest(f"{i}", prompt, 4, temperature=float(i % 2), top_p=0.9) for i in range(size)]
