"""A worker whose chats do what their prompt says.

- `long`: the answer has many words.
- `story`: the answer takes half a minute.
- `hang`: the chat never gets a delta, whatever else the engine is asked for.
- `kill`: the chat kills the worker at its third word.
- `break`: the chat breaks the engine at once.
- `frail`: the chat goes on for a second, and then breaks the engine.
"""

import os
import signal
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, models

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import LONG, STORY, serve_chats_with
from worker.app import app
from worker.chat.engine import ChatRequest
from worker.jobs.prompt.template import PromptTemplate

__all__ = ["app"]

#: The time between two words, in seconds.
STEP_S = 0.02
#: Each message is one of these words, which the tokenizer turns into one token.
WORDS = ("long", "hang", "kill", "break", "frail", "story", "?")


class WordsWithSideEffect(Sequence[str]):
    """The words of a long answer. Taking the word of that number, from 0, calls `effect`."""

    def __init__(self, number: int, effect: Callable[[], None]) -> None:
        self._number, self._effect = number, effect

    def __len__(self) -> int:
        return LONG

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # the engine takes no slices
        if number == self._number:
            self._effect()
        return " word"


class UnrulyEngine(FakeEngine):
    """A fake engine that obeys the prompts of its chats."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots=slots, step_s=STEP_S, script=self._script_of)
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="?"))
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")

    def submit(self, request: ChatRequest) -> None:
        word = self._word(request)
        if word == "break":
            self._break()
        if word != "hang":
            super().submit(request)

    def _break(self) -> None:
        self.break_down(RuntimeError("the GPU has fallen off the bus"))

    def _word(self, request: ChatRequest) -> str:
        return WORDS[request.prompt[0]]

    def _script_of(self, request: ChatRequest) -> Sequence[str]:
        if self._word(request) == "kill":
            return WordsWithSideEffect(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        if self._word(request) == "frail":
            return WordsWithSideEffect(50, self._break)
        return [f" {number}" for number in range(STORY if self._word(request) == "story" else LONG)]


serve_chats_with(UnrulyEngine)
