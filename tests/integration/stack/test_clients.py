"""The programs of `make client-features` whose clients `make test` installs, with the whole stack."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NPM = Path(__file__).parents[2] / "clients/npm"


#: Features that no other test of these clients uses.
FEATURES = ("log-probabilities", "JSON schema", "tool call in a stream", "result of a tool")


def failures(stack: Stack, *command: str) -> list[str]:
    """Run a client's program, and return its features that fail."""
    words = [*command, stack.settings.url, stack.settings.chat_model, *FEATURES]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["feature"] for one in results] == [*FEATURES], done.stderr
    return [f"{one['feature']}: {one['detail']}" for one in results if one["status"] == "fails"]


def test_openai_python_client_features(stack: Stack) -> None:
    assert failures(stack, sys.executable, "-m", "tests.clients.programs.openai_python") == []


@pytest.mark.long
@pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="Node and npm are not installed"
)
def test_openai_npm_client_features(stack: Stack) -> None:
    assert failures(stack, "node", str(NPM / "openai_npm.mjs")) == []
