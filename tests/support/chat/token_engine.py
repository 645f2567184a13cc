"""A chat engine without a model that says the tokens of a given text, and decodes them as real engines do."""

import threading
from collections.abc import Sequence
from pathlib import Path

from tests.support.chat.byte_tokenizer import END, TOKENIZER
from worker.chat.checkpoint import ModelFiles
from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.chat.request_tracker import AdmittedRequest, RequestTracker
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.errors import EngineDied
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats

#: A chat template of a model that reasons and calls tools.
TEMPLATE = (
    "{# <think> <tool_call> #}{{ tools or '' }}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
)


class TokenEngine:
    """An engine that answers with the tokens of `text`, one in each call of `step`.

    A resumed answer continues after `request.generated_ids`.
    """

    def __init__(self, text: str, template: str = TEMPLATE) -> None:
        self.slots = 4
        self.context_length = 4096
        self.supports = frozenset(SamplingParams.model_fields) | {"structured_outputs"}
        self.prompt_template = PromptTemplate(TOKENIZER.to_str(), template)
        #: Set when there is a request.
        self.busy = threading.Event()
        self._ids = [*TOKENIZER.encode(text).ids, END]
        self._tracker = RequestTracker()
        self._running: list[AdmittedRequest] = []

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        self._on_step = on_step
        files = ModelFiles(Path(), self.prompt_template, frozenset({END}), self.context_length)
        self._tracker.open(files, self.context_length)

    def submit(self, request: ChatRequest) -> None:
        if admitted := self._tracker.admit(request):
            self._running.append(admitted)
        self.busy.set()

    def cancel(self, request_id: str) -> None:
        self._tracker.cancel_request(request_id)

    def stats(self) -> EngineStats:
        return EngineStats()

    def stop(self) -> None:
        self._tracker.close(EngineDied("the chat engine was stopped"))

    def step(self) -> bool:
        """Report the next token of each request. Return False if there is none."""
        deltas: Sequence[Delta] = self._tracker.take_pending_finishes()
        for admitted in self._running:
            if state := self._tracker.get_state(admitted.key):
                at = len(admitted.request.generated_ids) + state.tokens_read
                complete = at + 1 in (len(self._ids), admitted.request.sampling.max_tokens)
                delta = self._tracker.add_tokens(admitted.key, state, [self._ids[at]], complete)
                deltas = [*deltas, delta] if delta else deltas
        if deltas:
            self._on_step(deltas)
        return bool(deltas)
