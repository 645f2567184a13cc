"""The chat engine on vLLM.

vLLM's `AsyncLLM` runs on an event loop in a thread of the worker, and vLLM's engine runs in its own process.

Importing this module imports neither torch nor vllm, because the worker must pin its device before they are
imported.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.chat.engine import ChatRequest, OnBroken, OnStep
from worker.chat.grammar_tokenizer import grammar_tokenizer
from worker.chat.request_tracker import AdmittedRequest, RequestTracker
from worker.chat.vllm_engine.environment import prepare_environment
from worker.chat.vllm_engine.reporter import StepReporter
from worker.chat.warmup import WarmUp, warmup_batches
from worker.jobs.chat.grammars import check_grammar
from worker.jobs.chat.sampling import STRUCTURE_PARAMETERS
from worker.jobs.errors import ConfigurationError, EngineFailed, InvalidStructure
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

    from worker.chat.checkpoint import ModelFiles


#: A command to the event loop's thread: a request to add, the key of a request to abort, or None to stop.
Command = AdmittedRequest | str | None


class VllmEngine:
    """A `ChatEngine` that runs `model` on the CPU (`device` "cpu") or on `gpus` GPUs ("cuda").

    `model` is a .gguf file or a Hugging Face directory. `args` are arguments of vLLM's engine; a
    `max_model_len` in it overrides `context_length`. `adapters` are the paths of LoRA adapters by name.

    Stoker makes text from the token ids and looks for stop strings itself. So the text is the same as that of
    the transformers engine, also in resumed answers.

    vLLM reserves its memory when it starts. A later shortage of memory ends the engine.
    """

    _llm: "AsyncLLM"
    _files: "ModelFiles"
    _lora_requests: "dict[str, LoRARequest]"
    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread
    _has_rules = False
    _moves_tokens = False
    _has_grammars = False

    def __init__(
        self,
        model: Path,
        device: str = "cpu",
        slots: int = 8,
        context_length: int = 2048,
        gpus: int = 1,
        args: Mapping[str, Any] | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self.slots = slots
        self.context_length = context_length
        self._path = model
        self._device = device
        self._gpus = gpus
        self._args = args or {}
        self._adapters = adapters or {}
        self._tracker = RequestTracker()
        self._reporter = StepReporter(self._tracker)
        self._commands: deque[Command] = deque()
        self._wake = asyncio.Event()

    @property
    def prompt_template(self) -> PromptTemplate:
        """The template that turns messages into a prompt for this model; known after `start`."""
        return self._files.prompt_template

    @property
    def supports(self) -> frozenset[str]:
        """The names of the sampling parameters that the engine obeys; known after `start`."""
        from worker.chat.vllm_engine.sampling import ANSWER_RULES, SUPPORTED

        rules = ANSWER_RULES if self._has_rules or self._moves_tokens else frozenset()
        return SUPPORTED | rules | (STRUCTURE_PARAMETERS if self._has_grammars else frozenset())

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load the model, warm up, then serve.

        Raises `ModelMissing` if there is no model, `ConfigurationError` if vLLM refuses `args`, and
        `EngineFailed` if the engine cannot run.
        """
        prepare_environment(self.slots)
        from worker.chat.checkpoint import read_model
        from worker.chat.vllm_engine.adapters import adapter_requests
        from worker.chat.vllm_engine.args import engine_config
        from worker.chat.vllm_engine.resuming_scheduler import install_scheduler, moves_tokens
        from worker.chat.vllm_engine.rules import install_rules

        trusted = bool(self._args.get("trust_remote_code"))
        files = self._files = read_model(self._path, trust_remote_code=trusted)
        length = min(self.context_length, files.context_length)
        model = files.folder, self._device, self.slots, length, self._gpus, self._adapters
        config = engine_config(self._args, *model)
        self._has_rules, self._moves_tokens = install_rules(config), moves_tokens(config)
        self._has_grammars = grammar_tokenizer(files.prompt_template, files.eos_tokens) is not None
        install_scheduler(config)
        started: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(config, started), name="vllm", daemon=True)
        self._thread.start()
        started.result()
        self._lora_requests = adapter_requests(self._adapters)
        self._load_adapters()
        self.context_length = self._llm.vllm_config.model_config.max_model_len
        graph_sizes = self._llm.vllm_config.compilation_config.cudagraph_capture_sizes or ()
        warmup = WarmUp()  # it raises a failure of the warm-up from this method
        self._reporter.on_step, self._reporter.on_broken = warmup.on_step, warmup.on_broken
        self._tracker.open(files, self.context_length)
        batches = warmup_batches(self.slots, self.context_length, graph_sizes, structured=self._has_grammars)
        warmup.run_batches(self, batches)
        self._reporter.on_step, self._reporter.on_broken = on_step, on_broken
        if not self._tracker.serving:
            raise EngineFailed("the chat engine died as soon as it was warm")

    def _load_adapters(self) -> None:
        """Load the adapters now, and not with their first requests.

        Stops the engine and raises `ConfigurationError` if vLLM cannot use one of them.
        """
        for name, request in self._lora_requests.items():
            loading = asyncio.run_coroutine_threadsafe(self._llm.add_lora(request), self._loop)
            try:
                loading.result()
            except Exception as error:  # vLLM lets pass what its engine's process has raised
                self.stop()
                raise ConfigurationError(f"STOKER_LORA: vLLM cannot load {name}: {error}") from error

    def submit(self, request: ChatRequest) -> None:
        """Accept a request. Raises `EngineDied` if the engine is not serving, or no longer."""
        admitted = self._tracker.admit(request)
        if admitted and (asked := request.sampling.structured_outputs):
            try:
                check_grammar(asked)  # in the caller's thread: vLLM's own checks would delay other chats
            except InvalidStructure as error:
                self._tracker.refuse(admitted.key, error)
                admitted = None
        self._enqueue([admitted] if admitted else [])

    def cancel(self, request_id: str) -> None:
        """End a request with "canceled". Unknown and finished ids are ignored."""
        key = self._tracker.cancel_request(request_id)
        if key is not None:
            self._enqueue([key])

    def stats(self) -> EngineStats:
        """Return the use of vLLM's cache, at most a second old."""
        return self._reporter.stats

    def stop(self) -> None:
        """End the running requests with "error", stop the thread and release the model.

        Must not be called from a callback.
        """
        if hasattr(self, "_llm"):
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._end_requests)
            self._llm.shutdown()  # while the loop still runs, because it owns the sockets
            self._enqueue([None])
            self._thread.join()
            del self._llm, self._files

    def _end_requests(self) -> None:
        self._reporter.on_end(None)
        if self._llm.output_handler:
            self._llm.output_handler.cancel()  # it would log the shutdown of vLLM as a failure

    def _enqueue(self, commands: Iterable[Command]) -> None:
        """Queue commands and wake the event loop, also for pending finishes if there are no commands."""
        self._commands.extend(commands)
        with suppress(RuntimeError):  # the loop has ended, and all requests with it
            self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self, config: "VllmConfig", started: Future[None]) -> None:
        """Start vLLM, then run its event loop."""
        from worker.chat.vllm_engine.output import start_llm

        try:
            self._llm = start_llm(config, self._reporter)
        except BaseException as error:
            self._loop.close()
            started.set_exception(error)
            return
        started.set_result(None)  # not `self._llm`: the future would keep vLLM alive after `stop`
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._reporter.on_end(error)

    async def _serve(self) -> None:
        """Execute commands as they come, and report pending finishes."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._commands:
                if (command := self._commands.popleft()) is None:
                    return
                await self._execute(command)
            self._reporter.report([])

    async def _execute(self, command: AdmittedRequest | str) -> None:
        """Add or abort a request. If vLLM refuses a request, only that request fails."""
        from vllm.inputs import tokens_input

        from worker.chat.vllm_engine.rules import rules_args
        from worker.chat.vllm_engine.sampling import sampling_params

        try:
            if isinstance(command, str):
                await self._llm.abort(command)
            elif command.key in self._tracker:  # otherwise it was canceled meanwhile
                request = command.request
                tokens = [*request.prompt, *request.generated_ids]
                prompt = tokens_input(tokens, cache_salt=request.cache_salt or None)
                tokenizer = self._files.prompt_template.tokenizer
                rules = rules_args(request, tokenizer) if self._has_rules else None
                eos_tokens, moved = self._files.eos_tokens, self._moves_tokens
                params = sampling_params(command, eos_tokens, rules, moved=moved)
                adapter = self._lora_requests.get(request.adapter)
                await self._llm.add_request(command.key, prompt, params, lora_request=adapter)
        except Exception as error:
            if self._llm.errored:
                self._reporter.on_end(error)
            elif isinstance(command, AdmittedRequest):
                refused = EngineFailed(f"vLLM refuses this request: {error}")
                failed = self._tracker.fail_request(command.key, refused)
                self._reporter.report([failed] if failed else [])
