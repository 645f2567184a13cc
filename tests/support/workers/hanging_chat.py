"""A chat worker whose engine accepts requests, but takes no step."""

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app

__all__ = ["app"]

serve_chats_with(lambda slots: FakeEngine(slots=slots), hang_s=0.5)
