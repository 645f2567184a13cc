"""A video worker whose device hangs: neither the first batch nor the release of its memory ever returns."""

import threading
from typing import cast

from torch import Tensor

from tests.support.video.alpha_models import ScriptedModel
from worker.app import app
from worker.jobs.settings import Settings
from worker.process.lifecycle import Lifecycle
from worker.video import pipeline
from worker.video.model import Clip, FrameModel
from worker.video.models.find import MODELS
from worker.video.models.selfie_segmentation import MattingOptions, MattingPass

__all__ = ["app"]


def hang(*_: object) -> None:
    """Create the file `hangs` in the home directory, then never return."""
    (Settings.from_env().home_dir / "hangs").touch()
    threading.Event().wait()


class HangingModel(ScriptedModel):
    """A model that warms up, and then hangs."""

    def start(self, clip: Clip, options: MattingOptions) -> MattingPass:
        through = super().start(clip, options)

        def call(frames: Tensor, valid: int) -> Tensor:
            if valid:
                hang()
            return through(frames, valid)

        return cast(MattingPass, call)


MODELS["bars"] = cast("type[FrameModel]", HangingModel)
vars(pipeline)["free"] = hang
Lifecycle.runner_stop_s = Lifecycle.threads_stop_s = 0.1
