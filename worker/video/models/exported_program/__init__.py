"""A program of `torch.export` as a frame model, and the check of its file."""

from worker.video.models.exported_program.model import ExportedModel

__all__ = ["ExportedModel"]
