"""Tests that requirements/*.lock pin what pyproject.toml asks for, with hashes."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: The extras of each lock. `dev.lock` has the extras that the Makefile installs.
LOCKS = {
    "web": [],
    "worker": ["worker"],
    "flower": ["flower"],
    "dev": ["worker", "local", "s3", "otel", "flower", "dev"],
}
#: Each machine has another build of it, so no hash fits all of them.
UNLOCKED = {"torch"}


def locked(name: str) -> Iterator[tuple[Requirement, int]]:
    """Yield each pin of the lock that this Python would install, and the number of its hashes."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    for pin in re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text)):
        requirement = Requirement(pin.partition(" \\\n")[0])
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement, pin.count("--hash=sha256:")


def version(pin: Requirement) -> str:
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize("name", LOCKS)
def test_lock_pins_every_dependency_of_the_project(name: str) -> None:
    pins = {canonicalize_name(pin.name): version(pin) for pin, _ in locked(name)}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [text for extra in LOCKS[name] for text in extras[extra]]
    for requirement in map(Requirement, wanted):
        if requirement.name not in UNLOCKED:
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_lock_has_one_hashed_version_of_each_package(name: str) -> None:
    pins = list(locked(name))
    names = [pin.name for pin, _ in pins]
    assert len(set(names)) == len(names)
    assert all(hashes and len(pin.specifier) == 1 for pin, hashes in pins)
    assert not UNLOCKED.intersection(names)


@pytest.mark.parametrize("name", ["web", "worker", "build"])
def test_images_have_the_versions_that_the_tests_run_with(name: str) -> None:
    tested = {pin.name: version(pin) for pin, _ in locked("dev")}
    assert {pin.name: version(pin) for pin, _ in locked(name)}.items() <= tested.items()


def test_lock_has_the_versions_of_the_constraints() -> None:
    tested = {pin.name: version(pin) for pin, _ in locked("dev")}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = [Requirement(line) for line in lines if not line.startswith("#")]
    for constraint in constraints:
        if constraint.name not in UNLOCKED:
            assert tested[canonicalize_name(constraint.name)] == version(constraint)
