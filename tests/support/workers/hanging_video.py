"""A video worker whose device hangs: the first batch never comes back, nor does what frees its memory."""

import threading

from torch import Tensor

from tests.support.scripted import ScriptedModel
from worker.app import app
from worker.jobs.settings import Settings
from worker.process import lifecycle
from worker.video import pipeline
from worker.video.models import MODELS

__all__ = ["app"]


def hang(*_: object) -> None:
    (Settings.from_env().home_dir / "hangs").touch()
    threading.Event().wait()


class HangingModel(ScriptedModel):
    """Wakes up, and then hangs."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if valid:
            hang()
        return super().__call__(frames, valid)


MODELS["bars"] = HangingModel
vars(pipeline)["free"] = hang
lifecycle.STOP_S = lifecycle.LET_GO_S = 0.1
