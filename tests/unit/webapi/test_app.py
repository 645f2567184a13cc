"""The app: what `create_app` sets for its process."""

import os

import pytest

from webapi.app import create_app
from worker.jobs.settings import Settings


def test_app_disables_tokenizer_threads(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    create_app(settings)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
