"""A plugin for pytest-xdist (`-p tests.support.scheduling`): tests that share a setup run in one process."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Folders whose tests share a running stack, or loaded models.
SHARED_FOLDERS = ("tests/contract/", "tests/integration/stack/")
#: Folders whose tests start processes or load models.
HEAVY_FOLDERS = (
    "tests/browser/",
    "tests/contract/",
    "tests/faults/",
    "tests/integration/cli/",
    "tests/integration/openapi/",
    "tests/integration/stack/",
    "tests/integration/worker/",
)


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A scheduler that keeps the tests of a file, and of each shared folder, in one process.

    One process runs the light tests first, and the others the heavy ones. Otherwise all processes would run
    heavy tests at the end, because those files have few tests each, and servers would start too slowly.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARED_FOLDERS if file.startswith(folder)), file)

    def _assign_work_unit(self, node: Any) -> None:
        heavy = node is not self.nodes[-1]
        fitting = (scope for scope in self.workqueue if scope.startswith(HEAVY_FOLDERS) == heavy)
        if scope := next(fitting, None):
            self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Replace the scheduler of pytest-xdist."""
    return FolderScheduling(config, log)
