"""A chat worker whose engine takes requests and no step."""

from tests.support.fake_engine import FakeEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app
from worker.chat import runner

__all__ = ["app"]

runner.HANG_S = 0.5

serve_chats_with(lambda slots: FakeEngine(slots=slots))
