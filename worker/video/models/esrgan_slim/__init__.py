"""ESRGAN Slim as a frame model: it doubles width and height."""

from worker.video.models.esrgan_slim.model import EsrganSlim

__all__ = ["EsrganSlim"]
