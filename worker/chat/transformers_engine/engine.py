"""The chat engine on transformers' continuous batching, for the CPU and CUDA.

Importing this module imports neither torch nor transformers, because the worker must pin its device before
torch is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.chat.request_tracker import RequestTracker
from worker.chat.warmup import WarmUp
from worker.jobs.chat.grammars import TOO_COMPLEX
from worker.jobs.chat.sampling import STRUCTURE_PARAMETERS, SamplingParams
from worker.jobs.errors import EngineDied, EngineFailed, InvalidStructure, OutOfMemory
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.requests import GenerationOutput

    from worker.chat.checkpoint import LoadedModel
    from worker.chat.transformers_engine.manager import StepManager


class TransformersEngine:
    """A `ChatEngine` that runs `model` on `device` ("cpu" or "cuda").

    `model` is a .gguf file or a Hugging Face directory. `context_length` is the most tokens of a sequence,
    prompt and answer together. The cache holds `slots` sequences of that length. With CUDA graphs
    transformers works one step ahead. Deltas then arrive one step late, and the engine drops the tokens that
    a request still produces after its end.
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
        self._tracker = RequestTracker()

    @property
    def prompt_template(self) -> PromptTemplate:
        """The template that turns messages into a prompt for this model; known after `start`."""
        return self._loaded.prompt_template

    @property
    def supports(self) -> frozenset[str]:
        """The names of the sampling parameters that the engine obeys; known after `start`."""
        from worker.chat.transformers_engine.sampling import SUPPORTED_ON_CPU, SUPPORTED_ON_CUDA

        supported = SUPPORTED_ON_CPU if self._device == "cpu" else SUPPORTED_ON_CUDA
        return supported | STRUCTURE_PARAMETERS if self._manager.has_grammars else supported

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load the model, warm up, then serve.

        Raises `ModelMissing` if there is no model, and `EngineFailed` if the model cannot run.
        """
        from worker.chat.checkpoint import load_model
        from worker.chat.transformers_engine.manager import StepManager, batching_config

        self._loaded = load_model(self._path, self._device)
        files = self._loaded.files
        self.context_length = min(self.context_length, files.context_length)
        config = batching_config(self._device, self.slots, self.context_length)
        self._manager = StepManager(self._loaded.model, config, self, files)
        self._manager.warmup()  # captures CUDA graphs, and does nothing on the CPU
        warmup = WarmUp()  # it raises a failure of the warm-up from this method
        self._on_step, self._on_broken = warmup.on_step, warmup.on_broken
        self._tracker.open(files, self.context_length)
        self._manager.start()
        step_tokens = self._manager.batch_tokens
        one_request = self._warmup_batch(1, step_tokens)
        all_slots = self._warmup_batch(self.slots, step_tokens // self.slots)
        warmup.run_batches(self, [one_request, all_slots])
        self._on_step, self._on_broken = on_step, on_broken
        if not self._tracker.serving:
            raise EngineFailed("the chat engine died as soon as it was warm")

    def submit(self, request: ChatRequest) -> None:
        """Accept a request. Raises `EngineDied` if the engine is not serving, or no longer."""
        if admitted := self._tracker.admit(request):
            try:
                self._manager.enqueue(admitted)
            except InvalidStructure as error:
                self._tracker.refuse(admitted.key, error)
        self._manager.wake()

    def cancel(self, request_id: str) -> None:
        """End a request with "canceled". Unknown and finished ids are ignored."""
        key = self._tracker.cancel_request(request_id)
        if key is not None:
            self._manager.cancel_request(key)

    def stats(self) -> EngineStats:
        """Return the use of transformers' cache now."""
        manager = getattr(self, "_manager", None)
        return manager.stats() if manager else EngineStats()

    def stop(self) -> None:
        """End the running requests with "error", stop the thread and release the model.

        Must not be called from a callback.
        """
        if hasattr(self, "_manager"):
            self._manager.stop(hard_stop=True)
            del self._manager, self._loaded

    def before_step(self) -> None:
        """Report the pending finishes (`GenerationListener`)."""
        if finishes := self._tracker.take_pending_finishes():
            self._on_step(finishes)

    def on_cache_search(self, key: str, cached_tokens: int) -> None:
        """Note how many tokens of a request are in the cache (`GenerationListener`)."""
        if (state := self._tracker.get_state(key)) is not None:
            state.cached_tokens = cached_tokens

    def on_outputs(self, outputs: "Sequence[GenerationOutput]") -> None:
        """Turn the outputs of a step into deltas and report them (`GenerationListener`)."""
        deltas = [delta for output in outputs if (delta := self._to_delta(output)) is not None]
        if deltas:
            self._on_step(deltas)

    def on_out_of_memory(self, keys: Sequence[str]) -> None:
        """End the requests for which a step had no memory (`GenerationListener`)."""
        reason = OutOfMemory("there was not enough memory for this chat beside the others")
        if deltas := [delta for key in keys if (delta := self._tracker.fail_request(key, reason))]:
            self._on_step(deltas)

    def on_end(self, error: BaseException | None) -> None:
        """End all running requests, then report the error if there is one (`GenerationListener`)."""
        try:
            if deltas := self._tracker.close(EngineDied.because_of(error)):
                self._on_step(deltas)
        finally:
            if error is not None:
                self._on_broken(error)

    def _to_delta(self, output: "GenerationOutput") -> Delta | None:
        """Return the delta of one output; None if its request has ended, by a stop string or a cancel."""
        state, delta = self._tracker.get_state(output.request_id), None
        if output.error is not None:
            delta = self._tracker.fail_request(output.request_id, EngineFailed(output.error))
        elif self._manager.take_grammar_failure(output.request_id):
            delta = self._tracker.fail_request(output.request_id, InvalidStructure(TOO_COMPLEX))
        elif state is not None:
            tokens = output.generated_tokens[state.tokens_read :]
            candidates = self._manager.take_candidates(output.request_id, tokens)
            delta = self._tracker.add_tokens(
                output.request_id, state, tokens, output.is_finished(), candidates
            )
        if (delta is None or delta.finish_reason) and not output.is_finished():
            # The request has ended for us but still runs in transformers. It met a stop string, or ran one
            # step longer than its end, or was canceled before transformers had it.
            self._manager.cancel_request(output.request_id)
        return delta

    def _warmup_batch(self, size: int, prompt_tokens: int) -> list[ChatRequest]:
        """Make `size` requests, greedy and sampled in turn, so that all code of serving runs once."""
        prompt = [0] * max(1, min(prompt_tokens, self.context_length - 4))
        sampling = [SamplingParams(max_tokens=4, temperature=n, top_p=0.9) for n in (0.0, 1.0)]
        return [ChatRequest(f"{i}", prompt, sampling[i % 2]) for i in range(size)]
