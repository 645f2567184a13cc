"""A chat worker that tells one story in Markdown, word by word.

`max_tokens` says how much of it. All chats get the same story, so a worker can continue that of another.
"""

import re

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from tests.support.workers.story import STORY
from worker.app import app

__all__ = ["app"]

#: The time between two words, in seconds.
STEP_S = 0.02


class Storyteller(FakeEngine):
    """An engine whose words are those of the story, each with the space before it."""

    def __init__(self, slots: int) -> None:
        super().__init__(words=re.findall(r"\s*\S+", STORY), slots=slots, step_s=STEP_S)


serve_chats_with(Storyteller)
