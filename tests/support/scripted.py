"""Scripted models for the fault campaign: their output is a function of their input alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tests.support.chat.fake_engine import FakeEngine
from tests.support.event_checks import Expected
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.specs import ChatJob

__all__ = ["STOP", "ScriptedEngine", "digits_chat", "expected"]

#: Seconds per step of all chats: long enough to kill a worker within one.
STEP_S = 0.02
WORDS = (" one", " naïve", " 東京", " 🙂", " four\n", " e\u0301", " {}", " \\", '"six"', " \u2028")
#: A stop string of two words. The engine must hold back the first until it knows the second.
STOP = "".join(WORDS[:2])


def answer(digits: str) -> Sequence[str]:
    """Return the answer to a message of digits: 10 to 60 words, chosen by the digits."""
    rng = random.Random(digits)
    return rng.choices(WORDS, k=rng.randint(10, 60))


def digits_chat(number: int) -> dict[str, Any]:
    """Return the body of this chat. Every third one has a stop string, and every fourth few tokens."""
    stop, tokens = STOP if number % 3 == 0 else [], 20 if number % 4 == 0 else 100
    return {"messages": [{"role": "user", "content": str(number)}], "stop": stop, "max_tokens": tokens}


def expected(job: ChatJob) -> Expected:
    """Return the result of an undisturbed run. The job may have at most one stop string."""
    words = answer(str(job.messages[0].content))
    text = "".join(words[: job.max_tokens])
    for stop in job.stop:
        before, found, _ = text.partition(stop)
        if found:
            ends = itertools.accumulate(map(len, words))
            return Expected(before, sum(end < len(before + stop) for end in ends) + 1, "stop")
    if job.max_tokens <= len(words):
        return Expected(text, job.max_tokens, "length")
    return Expected(text, len(words) + 1, "stop")  # and the end-of-sequence token


class ScriptedEngine(FakeEngine):
    """An engine that generates the `answer` to its prompt. Each digit of a prompt is one token."""

    def __init__(self, slots: int) -> None:
        super().__init__(
            script=lambda request: answer("".join(map(str, request.prompt))), slots=slots, step_s=STEP_S
        )
        tokenizer = Tokenizer(models.WordLevel({str(n): n for n in range(10)} | {"?": 10}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        self.prompt_template = PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")
