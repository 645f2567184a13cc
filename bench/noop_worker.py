"""A chat worker whose engine answers one word at once, so that only the cost of everything else remains."""

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app

__all__ = ["app"]

serve_chats_with(lambda slots: FakeEngine(("Hi",), slots=slots, step_s=0.0))
