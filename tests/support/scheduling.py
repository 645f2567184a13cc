"""A plugin for pytest-xdist (`-p tests.support.scheduling`): tests that share a setup run in one process."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Folders whose tests share a running stack, or loaded models.
SHARED_FOLDERS = ("tests/contract/", "tests/integration/stack/")


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A scheduler that keeps the tests of a file, and of each shared folder, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARED_FOLDERS if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Replace the scheduler of pytest-xdist."""
    return FolderScheduling(config, log)
