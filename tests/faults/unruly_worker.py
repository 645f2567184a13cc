"""A worker whose chats do what their prompt says: go on for long, hang, kill it, break its engine."""

import os
import signal
from collections.abc import Sequence

from tests.contract.fake_engine import FakeEngine
from worker import lifecycle
from worker.app import app
from worker.chat.engine import ChatRequest
from worker.chat.runner import ChatRunner
from worker.jobs.ledger import Ledger
from worker.jobs.prompt import PromptTemplate
from worker.jobs.settings import Settings
from worker.outbox import Outbox
from worker.runner import Runner

__all__ = ["LONG", "app"]

#: Of a `long` answer, in words, and how long each takes.
LONG, STEP_S = 250, 0.02
#: Each message is one of these words, and one token.
WORDS = ("long", "hang", "kill", "break")
TOKENIZER = (
    '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
    '"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,'
    '"model":{"type":"WordLevel","vocab":{"?":0,"long":1,"hang":2,"kill":3,"break":4},"unk_token":"?"}}'
)


class Deadly(Sequence[str]):
    """An answer that nobody survives: the third word kills."""

    def __len__(self) -> int:
        return LONG

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # nobody slices it
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return " kill"


class UnrulyEngine(FakeEngine):
    """Does as it is told."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots=slots, step_s=STEP_S, script=self._say)
        self.prompt_template = PromptTemplate(TOKENIZER, "{{ messages[0].content }}")

    def submit(self, request: ChatRequest) -> None:
        word = self._word(request)
        if word == "break":
            self.break_down(RuntimeError("the GPU has fallen off the bus"))
        if word != "hang":  # that one is never heard of again, whatever is asked of the engine
            super().submit(request)

    def _word(self, request: ChatRequest) -> str:
        return WORDS[request.prompt[0] - 1]

    def _say(self, request: ChatRequest) -> Sequence[str]:
        if self._word(request) == "kill":
            return Deadly()
        return [f" {number}" for number in range(LONG)]


real_make_runner = lifecycle.make_runner


def make_runner(kind: str, settings: Settings, torch_device: str, ledger: Ledger, outbox: Outbox) -> Runner:
    if kind == "chat":
        return ChatRunner(UnrulyEngine(settings.slots), "unruly", ledger, outbox)
    return real_make_runner(kind, settings, torch_device, ledger, outbox)


lifecycle.make_runner = make_runner
