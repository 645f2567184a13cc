"""The page of tested clients is that of the clients that are pinned."""

import json
from pathlib import Path

from tests.support.docs import ROOT

CLIENTS = ROOT / "tests/clients"
PAGE = ROOT / "docs/clients.md"


def pins(requirements: Path) -> str:
    """Return the client and the version of a requirements file, as the page shows them."""
    name, _, version = requirements.read_text().strip().partition("==")
    return f"{name.partition('[')[0]} {version}"


def test_clients_page_shows_the_pinned_versions() -> None:
    npm = json.loads((CLIENTS / "npm/package.json").read_text())["dependencies"]
    pinned = {pins(file) for file in (CLIENTS / "requirements").glob("*.txt")}
    pinned |= {f"{name} (npm) {npm[name]}" for name in ("openai", "ai")}
    header = next(line for line in PAGE.read_text().splitlines() if line.startswith("|"))
    assert pinned == set(header.strip("| ").split(" | "))


def test_clients_page_shows_no_failure() -> None:
    assert "**fails**" not in PAGE.read_text()
