"""The conformance test of frame models: which models pass it, and what it says about the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.video.clips import gradient
from tests.support.video.clips import make_clip as make_test_clip
from worker.jobs.errors import BadVideo, ConfigurationError, StokerError
from worker.jobs.settings import Settings
from worker.video.check.authors_traceback import authors_traceback
from worker.video.check.clips import HEIGHT, WIDTH
from worker.video.check.model_check import ModelCheck
from worker.video.check.report import Report
from worker.video.check.results import compare
from worker.video.check.trial import Trial
from worker.video.check.trial_factory import make_trial, other_batch_size
from worker.video.clip_tasks import ClipTasks
from worker.video.decoding.decoder import ClipDecoder
from worker.video.models.find import find_model
from worker.video.sandbox.sandboxes import Sandboxes

GOOD, BROKEN = "tests.support.video.frame_models:", "tests.support.video.broken_models:"
#: The default clip has 10 frames for this size: two batches and a half.
BATCH = 4
ALL = [
    "loads and warms up",
    "runs a clip",
    "leaves its frames and the next job alone",
    "ignores padding of 2 frames",
    "takes turns with another job",
    "keeps no trace of a warm-up",
    "gives the same results in batches of 2",
    "continues after an interruption at frame 6",
]


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Sandboxes]:
    shared = Sandboxes(ClipTasks.__module__)
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture(autouse=True)
def one_fork_server(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all pipelines use the same fork server, because each takes a third of a second to start."""

    class Shared(Sandboxes):
        def __init__(self, program: str, nvdec: object = None) -> None:
            self.sandbox = sandboxes.sandbox  # type: ignore[method-assign]

        def start(self) -> None:
            pass

        def stop(self) -> None:
            pass

    monkeypatch.setattr("worker.video.pipeline.Sandboxes", Shared)


def trial_of(spec: str, folder: Path, **how: Any) -> Trial:
    settings = Settings(batch_size=how.pop("batch_size", BATCH))
    return make_trial(find_model(spec, "author"), settings, folder, device="cpu", **how)


def check(spec: str, folder: Path, **how: Any) -> tuple[Report, StokerError | None]:
    """Return the report of a check, and the error that has ended it."""
    trial = trial_of(spec, folder, **how)
    report = Report.of_trial(trial)
    try:
        report.steps += ModelCheck(trial, other_batch_size(trial), 1, report).run()
    except StokerError as error:
        return report, error
    return report, None


@pytest.mark.parametrize("model", ["Double", "Trail", "Brightness"])
def test_check_passes_conforming_model(tmp_path: Path, model: str) -> None:
    report, error = check(GOOD + model, tmp_path)
    assert error is None
    assert [step.name for step in report.steps] == ALL
    form = {"Double": f"frames of {2 * WIDTH}x{2 * HEIGHT}", "Trail": f"frames of {WIDTH}x{HEIGHT}"}
    assert report.steps[1].detail == f"10 {form.get(model, 'records')} of 10 frames"
    assert {step.detail for step in report.steps[2:]} == {"largest difference 0"}
    figures = report.figures
    assert figures is not None
    assert min(*figures.batch_ms, figures.model_frames_s, figures.pipeline_frames_s) > 0
    assert (figures.memory, min(figures.peak_bytes) > 0) == ("rss", True)


@pytest.mark.parametrize(("frames", "taken"), [(7, 7), (8, 7), (9, 9)])
def test_check_takes_a_clip_whose_last_batch_is_padded(tmp_path: Path, frames: int, taken: int) -> None:
    clip = make_test_clip(tmp_path / "in.mp4", [gradient(number) for number in range(8)])
    assert trial_of(GOOD + "Double", tmp_path, frames=frames).frames == taken
    assert trial_of(GOOD + "Double", tmp_path, frames=frames, clip=clip).frames == 7


def test_check_of_sequential_model_starts_over(tmp_path: Path) -> None:
    report, error = check(GOOD + "SequentialTrail", tmp_path)
    assert error is None
    assert report.steps[-1].name == "starts over after an interruption, because it is sequential"


def test_check_gives_batches_as_long_as_neighbours(tmp_path: Path) -> None:
    report, error = check(GOOD + "Neighbours", tmp_path, batch_size=1)
    assert error is None
    assert report.batch_size == 2
    assert report.steps[-2].name == "gives the same results in batches of 4"


#: The number of steps that each broken model passes, and what the check says then, without the beginnings.
FIRST, OTHER = "batch 3 of the first job: the model ", r"differs by up to \d+ of 255"
SIZE, RESUMED = "results depend on the size of batches: ", "an interrupted job continues with other results: "
FAULTS = {
    "ShortensBatch": (1, FIRST + r"returned uint8 \(2, 74, 122, 3\) instead of frames of uint8 \(4, 74,"),
    "FailsLater": (1, FIRST + "raised KeyError: 'frame'$"),
    "RecordsOfPadding": (1, FIRST + "returned 4 records for 2 frames$"),
    "TensorsInRecords": (1, "batch 1 of the first job: a record of the model is not JSON: Object of type T"),
    "WritesIntoFrames": (2, "it writes into its frames, which Stoker still needs: use a copy of them$"),
    "LeavesTraces": (2, rf"a job, or its warm-up, leaves traces in the model: result 0 {OTHER} in a second"),
    "Random": (2, rf"results depend on chance: result 0 {OTHER} in another run \(call `eval"),
    "MixesFrames": (3, f"padding changes the results of real frames: result 8 {OTHER} if it is black$"),
    "KeepsJobInModel": (4, f"jobs whose batches take turns disturb each other: result 4 {OTHER} beside"),
    "RemembersWarmUp": (5, f"a warm-up leaves traces in the model: result 0 {OTHER} in a job without it"),
    "DependsOnBatchSize": (6, f"{SIZE}result 0 differs by up to 2 of 255 in batches of 2, not 4$"),
    "PlaceInBatch": (6, rf"{SIZE}result 2 has 0 instead of 2 as faces\[0\].place in batches of 2, not 4$"),
    "HidesItsState": (7, rf"{RESUMED}result 6 {OTHER} \(the pass needs `state` and `restore`, or the class"),
    "LacksState": (7, rf"{RESUMED}result 6 {OTHER} \(`state` must return all"),
    "IgnoresState": (7, "after `restore`, `state` returns another value of last$"),
}


@pytest.mark.parametrize("model", FAULTS)
def test_check_says_what_breaks_the_contract(tmp_path: Path, model: str) -> None:
    steps, message = FAULTS[model]
    report, error = check(BROKEN + model, tmp_path)
    with pytest.raises(StokerError, match=f"^{message}"):
        raise error or AssertionError("it passes")
    assert [step.name for step in report.steps] == ALL[:steps]
    assert "\n" not in str(error)


def test_check_says_that_output_fails(tmp_path: Path) -> None:
    report, error = check(BROKEN + "FailsInOutput", tmp_path)
    assert str(error) == "the video model author cannot be used: the model raised ValueError: no idea"
    assert report.steps == []
    assert error is not None
    shown = authors_traceback(error)
    assert shown.endswith('raise ValueError("no idea")\nValueError: no idea\n')
    assert shown.count("File ") == 1


def test_check_says_how_to_go_on_with_a_model_of_one_size(tmp_path: Path) -> None:
    _, error = check(BROKEN + "RefusesClip", tmp_path)
    assert isinstance(error, ConfigurationError)
    refusal = "the model takes frames of 64x64 pixels only"
    assert str(error) == f"{refusal}: use another --clip, or options with --set"


def test_check_shows_traceback_of_the_authors_code_only(tmp_path: Path) -> None:
    _, error = check(BROKEN + "FailsLater", tmp_path)
    assert error is not None
    lines = authors_traceback(error).splitlines()
    assert [line.partition(", in ")[2] for line in lines if line.startswith("  File ")] == ["__call__"]
    assert lines[-1] == "KeyError: 'frame'"


@pytest.mark.parametrize("spec", ["no_such_package:Model", f"{GOOD}Missing"])
def test_check_shows_no_traceback_where_the_sentence_says_it_all(spec: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        find_model(spec, "author")
    assert authors_traceback(raised.value) == ""


def test_check_shows_the_line_of_a_syntax_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "authors_module.py").write_text("import torch\ndef\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        find_model("authors_module:Model", "author")
    assert 'authors_module.py", line 2' in authors_traceback(raised.value)


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ({"x": 0.509, "faces": [{"at": [1999.0, 2]}], "name": "a"}, None),
        ({"x": 0.52, "faces": [{"at": [2000.0, 2]}], "name": "a"}, "has 0.52 instead of 0.5 as x"),
        ({"x": 0.5, "faces": [{"at": [9.0, 2]}], "name": "a"}, "has 9.0 instead of 2000.0 as faces[0].at[0]"),
        ({"x": 0.5, "faces": [], "name": "a"}, "has [] instead of [{'at': [2000.0, 2]}] as faces"),
        ({"x": 0.5, "faces": [{"at": [2000.0, 2]}], "name": "b"}, "has 'b' instead of 'a' as name"),
        ({"x": None, "faces": [{"at": [2000.0, 2]}], "name": "a"}, "has None instead of 0.5 as x"),
    ],
)
def test_check_compares_numbers_in_records_with_a_tolerance(other: dict[str, Any], fault: str | None) -> None:
    record = {"x": 0.5, "faces": [{"at": [2000.0, 2]}], "name": "a"}
    found = compare({0: record, 40: record}, {40: other}, 1)
    assert found.fault == (fault and f"result 1 {fault}")


def test_check_uses_the_first_frames_of_a_clip(tmp_path: Path) -> None:
    clip = make_test_clip(tmp_path / "in.mp4", [gradient(number) for number in range(15)])
    trial = trial_of(f"{GOOD}Identity", tmp_path, clip=clip)
    assert trial.frames == 10
    decoder = ClipDecoder(trial.clip)
    assert (decoder.header.width, decoder.header.height, len(list(decoder.frames))) == (64, 48, 10)
    decoder.close()


def test_check_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    short = make_test_clip(tmp_path / "in.mp4", [gradient(number) for number in range(4)])
    (tmp_path / "text.mp4").write_text("no clip")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"clip": short}, "4 frames are too few for batches of 4"),
        ({"options": ["keep=2"]}, "--set keep: must be a number, at least 0, at most 1"),
        ({"options": ["kept=1"]}, "--set kept=1: must be KEY=VALUE, where KEY is one of keep, stamp"),
        ({"options": ["stamp=@gone.png"]}, "--set stamp: there is no file gone.png"),
    ]
    for how, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            trial_of(f"{GOOD}Trail", tmp_path, **how)
    with pytest.raises(BadVideo):
        trial_of(f"{GOOD}Trail", tmp_path, clip=tmp_path / "text.mp4")


def test_check_reads_options_as_the_api_does(tmp_path: Path) -> None:
    trial = trial_of(f"{GOOD}Trail", tmp_path, options=["keep=0.25", f"stamp=@{__file__}"])
    assert trial.options == {"keep": 0.25}
    assert trial.uploads == {"stamp": Path(__file__)}
