"""A chat worker whose engine says one word at once: what is left is the price of everything else."""

from tests.support.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app

__all__ = ["app"]

serve_chats_with(lambda slots: FakeEngine(("Hi",), slots=slots, step_s=0.0))
