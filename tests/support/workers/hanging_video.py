"""A video worker whose device hangs: neither the first batch nor the release of its memory ever returns."""

import threading

from torch import Tensor

from tests.support.scripted import ScriptedModel
from worker.app import app
from worker.jobs.settings import Settings
from worker.process.lifecycle import Lifecycle
from worker.video import pipeline
from worker.video.models import MODELS

__all__ = ["app"]


def hang(*_: object) -> None:
    """Create the file `hangs` in the home directory, then never return."""
    (Settings.from_env().home_dir / "hangs").touch()
    threading.Event().wait()


class HangingModel(ScriptedModel):
    """A model that warms up, and then hangs."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if valid:
            hang()
        return super().__call__(frames, valid)


MODELS["bars"] = HangingModel
vars(pipeline)["free"] = hang
Lifecycle.runner_stop_s = Lifecycle.threads_stop_s = 0.1
