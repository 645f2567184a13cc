"""A worker with scripted models and otherwise real code: `celery -A tests.support.workers.fake worker`."""

from tests.support.scripted import ScriptedEngine, ScriptedModel
from tests.support.stand_ins import serve_chats_with
from worker.app import app
from worker.jobs.settings import Settings

__all__ = ["app"]

serve_chats_with(ScriptedEngine)
if Settings.from_env().worker == "video":  # a chat worker starts sooner without torch
    from worker.video.models import MODELS

    MODELS["bars"] = ScriptedModel
