"""The default models and the sample clips: their sources, and how they are fetched and verified."""

from worker.assets.asset import Asset
from worker.assets.catalogue import ASSETS, MODELS
from worker.assets.store import fetch, resolve

__all__ = ["ASSETS", "MODELS", "Asset", "fetch", "resolve"]
