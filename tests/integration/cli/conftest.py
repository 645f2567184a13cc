"""Fixtures of the tests of the command line."""

import pytest

from tests.support.web.webstack import Web


@pytest.fixture
def stoker_url(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the commands of this process at the API."""
    monkeypatch.setenv("STOKER_URL", str(web.http.base_url))
