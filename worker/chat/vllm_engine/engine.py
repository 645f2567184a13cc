"""The chat engine on vLLM: its AsyncLLM on an event loop in a thread of ours, its engine in its own process.

Importing this imports neither torch nor vllm: the device is pinned before they are.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.chat.request_tracker import AdmittedRequest, RequestTracker
from worker.chat.vllm_engine.environment import prepare
from worker.chat.warmup import WarmUp, warmup_batches
from worker.jobs.errors import EngineDied, EngineFailed
from worker.jobs.prompt import PromptTemplate

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine.async_llm import AsyncLLM

    from worker.chat.checkpoint import ModelFiles
    from worker.chat.vllm_engine.output import Output


class VllmEngine:
    """A ChatEngine that runs `model`, a .gguf file or a directory, on `device`: "cpu", or "cuda" and `gpus`.

    `args` are arguments of vLLM's engine; its `max_model_len` goes before `context_length`. Text and stop
    strings are made here, of token ids: so they are those of the other engine, also behind what was `said`.
    A lack of memory, which vLLM sets aside beforehand, breaks its engine.
    """

    _llm: "AsyncLLM"
    _files: "ModelFiles"
    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread
    _on_step: OnStep
    _on_broken: OnBroken

    def __init__(
        self,
        model: Path,
        device: str = "cpu",
        slots: int = 8,
        context_length: int = 2048,
        gpus: int = 1,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        self.slots = slots
        self.context_length = context_length
        self._path = model
        self._device = device
        self._gpus = gpus
        self._args = args or {}
        self._answers = RequestTracker()
        self._orders: deque[AdmittedRequest | str | None] = deque()  # to take; to abort, by key; None: to end
        self._wake = asyncio.Event()

    @property
    def prompt_template(self) -> PromptTemplate:
        """How messages become prompts for this model; known once started."""
        return self._files.prompt_template

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load, warm up and serve.

        ModelMissing if there is no model, ConfigurationError if vLLM refuses `args`, EngineFailed
        if it cannot run.
        """
        prepare(self.slots)
        from worker.chat.checkpoint import read_model
        from worker.chat.vllm_engine.args import engine_config

        files = self._files = read_model(self._path)
        length = min(self.context_length, files.context_length)
        config = engine_config(self._args, files.folder, self._device, self.slots, length, self._gpus)
        started: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(config, started), name="vllm", daemon=True)
        self._thread.start()
        started.result()
        self.context_length = self._llm.vllm_config.model_config.max_model_len
        graphs = self._llm.vllm_config.compilation_config.cudagraph_capture_sizes or ()
        warmup = WarmUp()  # while warming up, a failure is raised from here
        self._on_step, self._on_broken = warmup.on_step, warmup.on_broken
        self._answers.open(files, self.context_length)
        warmup.run_all(self, warmup_batches(self.slots, self.context_length, graphs))
        self._on_step, self._on_broken = on_step, on_broken
        if not self._answers.serving:
            raise EngineFailed("the chat engine died as soon as it was warm")

    def submit(self, request: ChatRequest) -> None:
        """Take a request; EngineDied if the engine is not serving (any more)."""
        ticket = self._answers.admit(request)
        self._order([ticket] if ticket else [])

    def cancel(self, request_id: str) -> None:
        """End a request as "canceled"; unknown or finished ids are ignored."""
        key = self._answers.cancel(request_id)
        if key is not None:
            self._order([key])

    def stop(self) -> None:
        """End what still runs as "error", stop the thread and let go of the model; not from a callback."""
        if hasattr(self, "_llm"):
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._end)
            self._llm.shutdown()  # while the loop runs, for it has the sockets
            self._order([None])
            self._thread.join()
            del self._llm, self._files

    def on_outputs(self, outputs: "Sequence[Output]") -> Iterable[str]:
        """Turn a step's outputs into deltas (StepListener)."""
        deltas, unwanted = list[Delta](), list[str]()
        for output in outputs:
            delta = self._advance(output)
            if delta is not None:
                deltas.append(delta)
            if not output.finished and (delta is None or delta.finish_reason):
                unwanted.append(output.key)
        self._tell(deltas)
        return unwanted

    def on_end(self, error: BaseException | None) -> None:
        """End every request that has not ended, then report the error if there is one (StepListener)."""
        if not self._answers.serving:
            return
        reason = f"the chat engine died: {error}" if error else "the chat engine was stopped"
        try:
            self._tell(self._answers.close(EngineDied(reason)))
        finally:
            if error is not None:
                self._on_broken(error)

    def _end(self) -> None:
        self.on_end(None)
        if self._llm.output_handler:
            self._llm.output_handler.cancel()  # it would take vLLM's end for a failure, and log it

    def _order(self, orders: Iterable[AdmittedRequest | str | None]) -> None:
        self._orders.extend(orders)
        with suppress(RuntimeError):  # the loop has ended, and every request with it
            self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self, config: "VllmConfig", started: Future[None]) -> None:
        """Start vLLM, then run its event loop."""
        from worker.chat.vllm_engine.output import start_llm

        try:
            self._llm = start_llm(config, self)
        except BaseException as error:
            self._loop.close()
            started.set_exception(error)
            return
        started.set_result(None)  # not vLLM itself: somebody might keep it for longer than `stop` does
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.on_end(error)

    async def _serve(self) -> None:
        """Pass orders on to vLLM as they come, and bring the last deltas that no step does."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._orders:
                if (order := self._orders.popleft()) is None:
                    return
                await self._obey(order)
            self._tell([])

    async def _obey(self, order: AdmittedRequest | str) -> None:
        from vllm.inputs import tokens_input

        from worker.chat.vllm_engine.sampling import sampling_params

        try:
            if isinstance(order, str):
                await self._llm.abort(order)
            elif order.key in self._answers:  # else a cancel was faster
                prompt = tokens_input([*order.request.prompt, *order.request.generated_ids])
                params = sampling_params(order.request, order.room, self._files.eos_tokens)
                await self._llm.add_request(order.key, prompt, params)
        except Exception as error:
            if self._llm.errored:
                self.on_end(error)
            elif isinstance(order, AdmittedRequest):
                failed = self._answers.fail(order.key, EngineFailed(f"vLLM refuses this: {error}"))
                self._tell([failed] if failed else [])

    def _advance(self, output: "Output") -> Delta | None:
        answer = self._answers.get(output.key)
        if answer is None:
            return None
        if output.failed:
            return self._answers.fail(output.key, EngineFailed("vLLM gave this chat up"))
        return self._answers.extend(output.key, answer, output.tokens, output.finished)

    def _tell(self, deltas: Sequence[Delta]) -> None:
        """One report of these deltas and those that no step brings."""
        if every := [*deltas, *self._answers.take_decided()]:
            self._on_step(every)
