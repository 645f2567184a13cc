"""MediaPipe's selfie segmentation as a frame model: it finds people and replaces what is behind them."""

from worker.video.models.selfie_segmentation.model import (
    MattingOptions,
    MattingPass,
    SelfieSegmentation,
    SmoothMattingPass,
)

__all__ = ["MattingOptions", "MattingPass", "SelfieSegmentation", "SmoothMattingPass"]
