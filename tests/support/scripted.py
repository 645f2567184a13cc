"""Scripted models for the campaign: what they say and show follows from what they are given."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tests.support.event_checks import Expected
from tests.support.fake_engine import FakeEngine
from worker.jobs.prompt import PromptTemplate
from worker.jobs.specs import ChatJob

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STOP", "ScriptedEngine", "ScriptedModel", "expected"]

#: How long a step of all chats takes, and a batch of a video: long enough to be killed in.
STEP_S, BATCH_S = 0.02, 0.1
WORDS = (" one", " naïve", " 東京", " 🙂", " four\n", " e\u0301", " {}", " \\", '"six"', " \u2028")
#: A stop string of two words: the first of them is held back until the next one comes.
STOP = "".join(WORDS[:2])


def answer(digits: str) -> Sequence[str]:
    """What is said to a message of digits: 10 to 60 words."""
    rng = random.Random(digits)
    return rng.choices(WORDS, k=rng.randint(10, 60))


def expected(job: ChatJob) -> Expected:
    """What comes of an undisturbed run, with at most one stop string."""
    words = answer(job.messages[0].content)
    said = "".join(words[: job.max_tokens])
    for stop in job.stop:
        before, found, _ = said.partition(stop)
        if found:
            ends = itertools.accumulate(map(len, words))
            return Expected(before, sum(end < len(before + stop) for end in ends) + 1, "stop")
    if job.max_tokens <= len(words):
        return Expected(said, job.max_tokens, "length")
    return Expected(said, len(words) + 1, "stop")  # and the end-of-sequence token


class ScriptedEngine(FakeEngine):
    """Says the `answer` to its prompt, of which every digit is one token."""

    def __init__(self, slots: int) -> None:
        super().__init__(
            script=lambda request: answer("".join(map(str, request.prompt))), slots=slots, step_s=STEP_S
        )
        tokenizer = Tokenizer(models.WordLevel({str(n): n for n in range(10)} | {"?": 10}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")


class ScriptedModel:
    """A VideoModel: what is reddish is in front."""

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        return cls()

    def compile(self) -> None:
        pass

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        threading.Event().wait(BATCH_S)
        return (frames[:, None, :, :, 0] > 127).float()
