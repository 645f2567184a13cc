"""A chat worker whose errors quote prompts, and whose libraries print and log them.

- `fail`: the chat meets an error that quotes the prompt.
- `break`: the engine breaks with an error that quotes the prompt.
- any other prompt: the chat gets `ANSWER`.
"""

import logging
import traceback
import warnings

from tokenizers import Tokenizer, models, pre_tokenizers

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from tests.support.workers.planted import ANSWER, PROMPT
from worker.app import app
from worker.chat.engine import ChatRequest
from worker.jobs.prompt.template import PromptTemplate

__all__ = ["app"]

#: Each message begins with one of these words, which the tokenizer turns into one token.
WORDS = ("?", "fail", "break")

library = logging.getLogger("library")


class TelltaleEngine(FakeEngine):
    """A fake engine that obeys the first word of a prompt."""

    def __init__(self, slots: int) -> None:
        super().__init__(words=[ANSWER, f" {ANSWER}"], slots=slots, step_s=0.01)
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")

    def submit(self, request: ChatRequest) -> None:
        word = WORDS[request.prompt[0]]
        library.debug("the prompt is %s", PROMPT)
        if word == "fail":
            warnings.warn("this model is old", stacklevel=1)
            try:
                raise KeyError(PROMPT)
            except KeyError as error:
                library.error(f"the chat fails: {error}", exc_info=True)
                traceback.print_exc()
                raise ValueError(f"cannot run {PROMPT!r}") from error
        if word == "break":
            self.break_down(RuntimeError(f"the GPU has choked on {PROMPT}"))
        super().submit(request)


serve_chats_with(TelltaleEngine)
