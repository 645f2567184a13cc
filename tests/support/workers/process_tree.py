"""A chat worker whose engine starts a tree of processes while it loads.

The name of the model selects what the engine does next:

- `hangs`: it never finishes loading, and one process of the tree ignores SIGTERM.
- `loads`: it never finishes loading.
- `fails`: it raises an error.
- any other name: it serves.
"""

import threading

from tests.support.chat.fake_engine import FakeEngine
from tests.support.process_tree import start_tree
from tests.support.stand_ins import serve_chats_with
from worker.app import app
from worker.chat.engine import OnBroken, OnStep
from worker.jobs.errors import EngineFailed
from worker.jobs.settings import Settings

__all__ = ["app"]


class ParentEngine(FakeEngine):
    """An engine that starts processes and never ends them."""

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        settings = Settings.from_env()
        start_tree(settings.home_dir / "pids", stubborn=settings.chat_model == "hangs")
        if settings.chat_model in ("hangs", "loads"):
            threading.Event().wait()
        if settings.chat_model == "fails":
            raise EngineFailed("the model does not load")
        super().start(on_step, on_broken)


serve_chats_with(lambda slots: ParentEngine(slots=slots, step_s=0.01))
