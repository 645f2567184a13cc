"""A chat worker whose engine steps at the pace of a fast GPU: one word per chat and step, without an end."""

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app

__all__ = ["STEP_S", "app"]

#: Seconds per step that vLLM took on an H100 for 256 chats, with a model of 135 million parameters
#: (34,768 tokens/s).
STEP_S = 0.0074

serve_chats_with(lambda slots: FakeEngine((" word",) * 2048, slots=slots, step_s=STEP_S))
