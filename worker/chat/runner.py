"""The chat runner: it passes a job's messages to the engine, and the engine's deltas to the job's log."""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.chat.parsing.model_parsers import ModelParsers
from worker.chat.transcript.chat_metrics import ChatMetrics
from worker.chat.transcript.choices import resume_choices
from worker.chat.transcript.transcript import Transcript
from worker.jobs.chat.sampling import SamplingParams, unsupported
from worker.jobs.chat.tool_schema import forced_calls
from worker.jobs.errors import EngineDied, Unsupported
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.prompt.packed_prompt import unpack
from worker.jobs.prompt.template import PROMPT_FEATURES
from worker.jobs.readings import EngineStats
from worker.jobs.specs import ChatJob
from worker.runs.outbox import Outbox
from worker.runs.run import Run

__all__ = ["ChatRunner"]

#: Far longer than a step takes, and longer than a CPU needs to read a long prompt.
HANG_S = 600.0


#: What the runner supports itself, whatever the engine is.
OWN_PARAMETERS = PROMPT_FEATURES | {"n", "return_token_ids"}


class ChatRunner:
    """Runs up to `engine.slots` chats at once in the engine's one thread. Each choice is a request to it.

    An engine that has chats but produces no token for `hang_s` seconds is reported as broken. Canceled chats
    that end meanwhile do not count as a sign of life.

    Chats of different owners share cached prefixes of their prompts only if `shared_prefix_cache` is set, and
    messages contain control tokens only if `control_tokens` is set. `tool_parser` and `reasoning_parser` are
    names of parsers (`ModelParsers`). `adapters` are the names of the engine's LoRA adapters.
    """

    parameters = None
    starts_unclaimed = True

    def __init__(
        self,
        engine: ChatEngine,
        engine_name: str,
        ledger: Ledger,
        outbox: Outbox,
        *,
        hang_s: float = HANG_S,
        shared_prefix_cache: bool = False,
        control_tokens: bool = False,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        adapters: Collection[str] = (),
    ) -> None:
        self.slots = engine.slots
        self.adapters = adapters
        self.engine_name = engine_name
        self._engine = engine
        self._ledger = ledger
        self._outbox = outbox
        self._hang_s = hang_s
        self._shared_prefix_cache = shared_prefix_cache
        self._control_tokens = control_tokens
        self._parser_names = tool_parser, reasoning_parser
        self._transcripts: dict[str, Transcript] = {}
        #: While there are chats: when the engine last produced a token. Time without chats does not count.
        self._silent_since = 0.0
        #: While there are no chats: for how many seconds the engine had been silent when the last one ended.
        self._silent_s = 0.0

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self._engine.context_length

    @property
    def prompt(self) -> str:
        """The model's prompt template, serialised."""
        return self._template.to_json()

    @property
    def sampling(self) -> frozenset[str]:
        """The names of what the engine, the runner or its parsers support of a chat (`ChatJob.asked`)."""
        supports = self._engine.supports | self._parsers.supports | OWN_PARAMETERS
        return supports | {"tool_choice"} if "structured_outputs" in supports else supports

    @property
    def engine_stats(self) -> EngineStats:
        """The use of the engine's cache."""
        return self._engine.stats()

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up. `on_broken` is called when the engine dies or hangs."""
        self._on_broken = on_broken
        self._engine.start(self._on_step, on_broken)
        template = self._engine.prompt_template
        # The engine's own object if it can be used, because its tokenizer is parsed already.
        self._template = replace(template, control_tokens=True) if self._control_tokens else template
        _ = self._template.digest  # so that the first chat need not wait for it
        self._parsers = ModelParsers(template, *self._parser_names, vllm=self.engine_name == "vllm")

    def run_job(self, run: Run) -> None:
        """Submit the chat to the engine and wait until it has ended."""
        transcript, requests = self._resume(run)
        if not self._transcripts:
            self._silent_since = time.monotonic() - self._silent_s
        self._transcripts |= dict.fromkeys(transcript.choices, transcript)
        run.on_stop = lambda: self._cancel(transcript)
        try:
            for request in requests:
                self._engine.submit(request)
            run.begin()  # the claim of the job has been on its way until now
            if run.stopping.is_set():  # perhaps set before the engine had a request to cancel
                run.on_stop()
            self._wait(run)
        finally:
            for request_id in transcript.choices:
                del self._transcripts[request_id]
            self._cancel(transcript)  # the other choices, if one of them has ended the job
            if not self._transcripts:
                self._silent_s = time.monotonic() - self._silent_since

    def stop(self) -> None:
        """Stop the engine."""
        self._engine.stop()

    def _cancel(self, transcript: Transcript) -> None:
        for request_id in transcript.unfinished:
            self._engine.cancel(request_id)

    def _wait(self, run: Run) -> None:
        """Wait until the run is over. Report an engine that hangs: the worker then hands its chats back."""
        while (left_s := self._silent_since + self._hang_s - time.monotonic()) > 0:
            if run.over.wait(left_s):
                return
        self._on_broken(EngineDied(f"the chat engine has produced no token for {self._hang_s:.0f} s"))
        run.over.wait()

    def _resume(self, run: Run) -> tuple[Transcript, Sequence[ChatRequest]]:
        """Return the transcript and the engine's requests, which continue after the tokens in the log.

        A choice whose end is in the log has no request. The last one ends together with the job, so there is
        at least one request.
        """
        spec = run.record.spec
        if not isinstance(spec, ChatJob):
            raise TypeError(f"{run.record.id} is not a chat")
        if names := unsupported(spec, self.sampling):  # another worker of the model supports them
            raise Unsupported(f"the engine {self.engine_name} does not support {', '.join(names)}")
        if (adapter := run.record.adapter) and adapter not in self.adapters:
            raise Unsupported(f"this worker has no LoRA adapter {adapter}")
        history = self._ledger.events(run.record.id) if run.record.attempt > 1 else []
        prompt = unpack(self._template, run.record.prompt)
        if prompt is None:
            prompt = self._template.encode_job(spec, self._engine.context_length)
        choices = resume_choices(run, spec, history, self._parsers, prompt)
        requests = [
            ChatRequest(
                id=request_id,
                prompt=prompt,
                sampling=_sampling(spec, index),
                generated_ids=choice.generated_ids,
                cache_salt="" if self._shared_prefix_cache else _cache_salt(run.record.owner),
                marker_tokens=self._parsers.marker_tokens(spec),
                adapter=adapter,
            )
            for index, (request_id, choice) in enumerate(choices.items())
            if not choice.finish_reason
        ]
        first = not any(choice.tokens for choice in choices.values())
        metrics = ChatMetrics(run.record, spec, len(prompt), history, self._outbox.time() - time.monotonic())
        show_prompt = spec.return_token_ids and first
        return Transcript(run, prompt, choices, metrics, show_prompt=show_prompt), requests

    def _on_step(self, deltas: Sequence[Delta]) -> None:
        """Pass the deltas of one step to the transcripts, then notify the outbox once for all of them.

        A chat that ends because its engine died gets no terminal event: the worker ends and hands it back, so
        that another worker continues it.
        """
        now = time.monotonic()
        if any(delta.token_ids for delta in deltas):  # an engine that hangs can still report cancels
            self._silent_since, self._silent_s = now, 0.0
        deferred: list[Transcript] = []
        urgent: list[Transcript] = []
        for delta in deltas:
            transcript = self._transcripts.get(delta.id)
            if transcript and not isinstance(delta.error, EngineDied):
                if transcript.add(delta, now):
                    urgent.append(transcript)
                elif transcript.newly_pending:
                    deferred.append(transcript)
        self._outbox.put(deferred, urgent)


def _cache_salt(owner: str) -> str:
    """Return the cache salt of an owner's chats; the engines and their logs never see the owner itself."""
    return hashlib.sha256(owner.encode()).hexdigest()


def _sampling(spec: ChatJob, index: int) -> SamplingParams:
    """Return the parameters of one choice. Its seed is the chat's seed plus its index, as in vLLM.

    If the chat has to call tools, the answer is JSON.
    """
    changes: dict[str, Any] = {}
    if forced := forced_calls(spec):
        changes["structured_outputs"] = forced
    if spec.seed is not None:
        changes["seed"] = (spec.seed + index + 2**63) % 2**64 - 2**63
    return spec.model_copy(update=changes) if changes else spec
