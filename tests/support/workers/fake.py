"""A worker with scripted models and otherwise real code: `celery -A tests.support.workers.fake worker`."""

from tests.support.scripted import ScriptedEngine
from tests.support.stand_ins import serve_chats_with
from worker.app import app
from worker.video.models.find import MODELS

__all__ = ["app"]

serve_chats_with(ScriptedEngine)
MODELS["bars"] = "tests.support.video.alpha_models:ScriptedModel"
