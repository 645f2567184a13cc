"""A chat worker whose engine takes long steps, so that a machine with few cores can run several workers."""

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app

__all__ = ["STEP_S", "app"]

#: Seconds per step, whatever the number of chats.
STEP_S = 0.05

serve_chats_with(lambda slots: FakeEngine((" word",) * 2048, slots=slots, step_s=STEP_S))
