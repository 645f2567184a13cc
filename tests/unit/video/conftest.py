"""Pipelines of these tests share one fork server."""

import pytest

from tests.support.video.sandboxes import shared_sandboxes
from worker.video import pipeline


@pytest.fixture(autouse=True)
def _shared_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "Sandboxes", shared_sandboxes)
