"""A worker with scripted models, `celery -A tests.faults.fake_worker worker`; the rest is the real one."""

from tests.faults.scripted import ScriptedEngine, ScriptedModel
from worker import lifecycle
from worker.app import app
from worker.chat.runner import ChatRunner
from worker.jobs.ledger import Ledger
from worker.jobs.settings import Settings
from worker.outbox import Outbox
from worker.runner import Runner

__all__ = ["app"]

real_make_runner = lifecycle.make_runner


def make_runner(kind: str, settings: Settings, torch_device: str, ledger: Ledger, outbox: Outbox) -> Runner:
    if kind == "chat":
        return ChatRunner(ScriptedEngine(settings.slots), "scripted", ledger, outbox)
    from worker.video.models import MODELS

    MODELS["bars"] = ScriptedModel
    return real_make_runner(kind, settings, torch_device, ledger, outbox)


lifecycle.make_runner = make_runner
