"""A worker whose chats do what their prompt says: go on for long, hang, kill it, break its engine."""

import os
import signal
from collections.abc import Sequence

from tokenizers import Tokenizer, models

from tests.contract.fake_engine import FakeEngine
from tests.faults.stand_ins import LONG, serve_chats_with
from worker.app import app
from worker.chat.engine import ChatRequest
from worker.jobs.prompt import PromptTemplate

__all__ = ["app"]

#: How long a word takes.
STEP_S = 0.02
#: Each message is one of these words, and one token.
WORDS = ("long", "hang", "kill", "break", "?")


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
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="?"))
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")

    def submit(self, request: ChatRequest) -> None:
        word = self._word(request)
        if word == "break":
            self.break_down(RuntimeError("the GPU has fallen off the bus"))
        if word != "hang":  # that one is never heard of again, whatever is asked of the engine
            super().submit(request)

    def _word(self, request: ChatRequest) -> str:
        return WORDS[request.prompt[0]]

    def _say(self, request: ChatRequest) -> Sequence[str]:
        if self._word(request) == "kill":
            return Deadly()
        return [f" {number}" for number in range(LONG)]


serve_chats_with(UnrulyEngine)
