"""A chat worker whose engine starts a family; the model's name says what then becomes of the engine."""

import threading

from tests.support.fake_engine import FakeEngine
from tests.support.family import beget
from tests.support.stand_ins import serve_chats_with
from worker.app import app
from worker.chat.engine import OnBroken, OnStep
from worker.jobs.errors import EngineFailed
from worker.jobs.settings import Settings

__all__ = ["app"]


class ParentEngine(FakeEngine):
    """Never ends its family, whatever happens."""

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        settings = Settings.from_env()
        beget(settings.home_dir / "book", stubborn=settings.chat_model == "hangs")
        if settings.chat_model in ("hangs", "loads"):
            threading.Event().wait()
        if settings.chat_model == "fails":
            raise EngineFailed("the model does not load")
        super().start(on_step, on_broken)


serve_chats_with(lambda slots: ParentEngine(slots=slots, step_s=0.01))
