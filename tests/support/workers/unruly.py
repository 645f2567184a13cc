"""A worker whose chats do what their prompt says: go on for long, hang, kill it, break its engine.

A `frail` one goes on for a second, and then breaks the engine.
"""

import os
import signal
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, models

from tests.support.fake_engine import FakeEngine
from tests.support.stand_ins import LONG, serve_chats_with
from worker.app import app
from worker.chat.engine import ChatRequest
from worker.jobs.prompt import PromptTemplate

__all__ = ["app"]

#: How long a word takes.
STEP_S = 0.02
#: Each message is one of these words, and one token.
WORDS = ("long", "hang", "kill", "break", "frail", "?")


class Deadly(Sequence[str]):
    """A long answer with something that is done at the word of that number."""

    def __init__(self, number: int, deed: Callable[[], None]) -> None:
        self._number, self._deed = number, deed

    def __len__(self) -> int:
        return LONG

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # nobody slices it
        if number == self._number:
            self._deed()
        return " word"


class UnrulyEngine(FakeEngine):
    """Does as it is told."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots=slots, step_s=STEP_S, script=self._say)
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="?"))
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")

    def submit(self, request: ChatRequest) -> None:
        word = self._word(request)
        if word == "break":
            self._break()
        if word != "hang":  # that one is never heard of again, whatever is asked of the engine
            super().submit(request)

    def _break(self) -> None:
        self.break_down(RuntimeError("the GPU has fallen off the bus"))

    def _word(self, request: ChatRequest) -> str:
        return WORDS[request.prompt[0]]

    def _say(self, request: ChatRequest) -> Sequence[str]:
        if self._word(request) == "kill":  # which nobody survives
            return Deadly(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        if self._word(request) == "frail":
            return Deadly(50, self._break)
        return [f" {number}" for number in range(LONG)]


serve_chats_with(UnrulyEngine)
