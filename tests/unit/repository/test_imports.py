"""Imports between the packages, and the modules that importing the API loads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def imported(path: Path) -> Iterator[str]:
    """Yield every module that the file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(package: str) -> set[tuple[str, str]]:
    """Return (file, module) of each import of our packages within this package."""
    return {
        (str(path.relative_to(ROOT)), module)
        for path in (ROOT / package).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] in ("worker", "webapi", "tests")
    }


def allowed(module: str, *packages: str) -> bool:
    """Return whether the module belongs to one of the packages."""
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def test_imports_between_packages_go_one_way() -> None:
    found = {name: ours(name) for name in ("webapi", "worker", "worker/jobs")}
    assert all(found.values())
    assert [pair for pair in found["webapi"] if not allowed(pair[1], "webapi", "worker.jobs")] == []
    assert [pair for pair in found["worker/jobs"] if not allowed(pair[1], "worker.jobs")] == []
    assert [pair for pair in found["worker"] if not allowed(pair[1], "worker")] == []


@pytest.mark.parametrize("module", ["webapi", "webapi.app", "webapi.cli", "webapi.webhooks.sender"])
def test_imports_of_the_api_load_neither_torch_nor_pyav_and_start_no_thread(module: str) -> None:
    code = (
        f"import sys, threading, {module}\n"
        "assert threading.active_count() == 1\n"
        "print({'av', 'torch', 'transformers', 'fsspec', 'opentelemetry.exporter', 'worker.lane.tasks'}"
        " & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize(
    ("module", "slow"),
    [("webapi.cli.main", "celery"), ("webapi.cli.main", "jsonschema"), ("webapi.app", "jsonschema")],
)
def test_start_imports_no_slow_package_that_it_does_not_need(module: str, slow: str) -> None:
    code = f"import sys, {module}; print({slow!r} in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_imports_of_tests_leave_the_kinds_of_their_process_alone() -> None:
    """A program of a worker replaces the engine of the process that imports it."""
    folder = ROOT / "tests" / "support" / "workers"
    programs = {
        f"tests.support.workers.{path.stem}"
        for path in folder.glob("*.py")
        if "tests.support.stand_ins.serve_chats_with" in imported(path)
    }
    assert len(programs) > 3
    assert not {(file, module) for file, module in ours("tests") if allowed(module, *programs)}
