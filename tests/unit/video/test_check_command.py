"""`stoker check`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.cli import run_stoker
from worker.video.check.command import main

GOOD, BROKEN = "tests.support.video.frame_models:", "tests.support.video.broken_models:"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the command sets it


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--batch-size", "4", "--device", "cpu"])


@pytest.mark.long
def test_stoker_check_reports_without_redis(tmp_path: Path) -> None:
    model = ["check", GOOD + "Trail", "--set", "keep=0.25", "--batch-size", "4", "--device", "cpu"]
    done = run_stoker(tmp_path, *model, STOKER_REDIS_URL="redis://127.0.0.1:1/0")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0] == "Trail on cpu, 10 frames in batches of 4"
    row = "keep     a number, at least 0, at most 1  0.5      The share of the frames before."
    assert lines[2].split() == row.split()
    assert "  ok  continues after an interruption at frame 6 (largest difference 0)" in lines
    assert [line.partition(": ")[0] for line in lines[-4:-1]] == [
        "ms a batch",
        "frames/s",
        "MiB at the peak of a batch",
    ]
    assert lines[-1] == "Trail keeps the contract of frame models"


def test_check_command_fails_with_a_sentence_and_the_authors_traceback() -> None:
    result = run(BROKEN + "FailsLater")
    first, *others = result.stderr.splitlines()
    assert result.exit_code == 1
    assert first.startswith(
        "Error: FailsLater breaks its contract: batch 3 of the first job: the model raised "
    )
    assert others[0].startswith("Traceback")
    assert others[-1] == "KeyError: 'frame'"
    assert "keeps the contract" not in result.stdout


def test_check_command_prints_json() -> None:
    result = run(BROKEN + "WritesIntoFrames", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["passed"], report["model"], report["batch_size"]) == (False, "WritesIntoFrames", 4)
    assert report["broken"].startswith("it writes into its frames")
    assert [step["name"] for step in report["steps"]] == ["loads and warms up", "runs a clip"]


def test_check_command_says_that_there_is_no_such_model() -> None:
    result = run("unknown")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no video model unknown: name one of selfie_segmentation")
    assert result.stderr.count("\n") == 1
