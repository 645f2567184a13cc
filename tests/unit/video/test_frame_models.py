"""Models of many forms in the pipeline: what they get, and what becomes of their results."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from tests.support.video import frame_models
from tests.support.video.clips import gradient, is_same_clip, libav_warnings, make_clip, read_clip
from tests.support.video.pipeline import recording_writer
from tests.support.video.sandboxes import open_clip
from tests.support.video.scaler import largest_difference, scaled_to_planes
from worker.jobs.errors import ConfigurationError, InvalidOptions, ModelFailed
from worker.video.inference.padding import Pad
from worker.video.model import FrameModel
from worker.video.models.find import find_model
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest, VideoResult

Pictures = NDArray[np.uint8]
#: 21 frames make six batches, the last of one frame, and three segments.
FRAMES, BATCH, SEGMENT = 21, 4, 2
#: The times of the frames in ms: their distances differ.
PTS = [40 * number + 3 * (number % 4) for number in range(FRAMES)]
SPEC = "tests.support.video.frame_models:"


class Killed(BaseException):
    """The end of a run, as a BaseException that the pipeline does not catch."""


@dataclass
class Outcome:
    """What a job has made. `written` are the results of each batch before the encoder's losses."""

    result: VideoResult
    written: Sequence[Any]
    batches: Sequence[BatchDone]
    target: Path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    pictures = [gradient(number) for number in range(FRAMES)]
    return make_clip(tmp_path / "in.mkv", pictures, pts=PTS, time_base=Fraction(1, 1000))


@pytest.fixture
def frames(clip: Path) -> Pictures:
    """The clip's frames as models get them."""
    with open_clip(clip, FRAMES) as reader:
        return np.concatenate([batch.window[: batch.valid].copy() for batch in reader])


def run(
    model: str, request: VideoRequest, kill_after: int | None = None, spec: str = SPEC, **how: Any
) -> Outcome:
    """Run the request. After the batch `kill_after`, kill the pipeline and continue with another one."""
    written: list[Any] = []
    by_batch: dict[int, Any] = {}
    batches: list[BatchDone] = []

    def on_batch(batch: BatchDone) -> None:
        batches.append(batch)
        by_batch[batch.index] = written[-1]
        if batch.index == kill_after and len(batches) == kill_after + 1:
            raise Killed

    how = {"batch_size": BATCH, "segment_batches": SEGMENT} | how
    while True:
        pipeline = VideoPipeline(
            lambda: find_model(spec + model, model), segment_writer=recording_writer(written), **how
        )
        pipeline.load()
        try:
            result = pipeline.run_clip(request, on_batch=on_batch, canceled=lambda: False)
        except Killed:
            request = replace(request, done=batches[-1].done)
        else:
            return Outcome(result, [by_batch[index] for index in sorted(by_batch)], batches, request.target)
        finally:
            pipeline.close()


def request_for(clip: Path, **options: Any) -> VideoRequest:
    return VideoRequest(clip, clip.with_name("out.mp4"), clip.with_name("work"), options)


def average(frames: Pictures) -> Pictures:
    """Return what `Neighbours` should make of the frames."""
    last = len(frames) - 1
    places = [[min(max(0, at + step), last) for step in (-1, 0, 1, 2)] for at in range(len(frames))]
    return np.stack([frames[near].astype(np.float32).mean(0).astype(np.uint8) for near in places])


def interpolation(frames: Pictures) -> Pictures:
    """Return what `Interpolation` should make of the frames."""
    results = []
    for at, part in (divmod(2 * number, 3) for number in range(-(-len(frames) * 3 // 2))):
        one, two = (frames[min(index, len(frames) - 1)].astype(np.float32) for index in (at, at + 1))
        results.append((one + np.float32(part / 3) * (two - one)).astype(np.uint8))
    return np.stack(results)


def trail(frames: Pictures, keep: float = 0.5) -> Pictures:
    """Return what `Trail` should make of the frames."""
    results, last = [], frames[0].astype(np.float32)
    for frame in frames:
        last = frame + np.float32(keep) * (last - frame)
        results.append(last.astype(np.uint8))
    return np.stack(results)


#: What each model should make of the frames, and the number of batches that a killed job repeats.
MODELS: dict[str, Callable[[Pictures], Pictures]] = {
    "Identity": lambda frames: frames,
    "Double": lambda frames: frames.repeat(2, 1).repeat(2, 2),
    "Neighbours": average,
    "Interpolation": interpolation,
    "EveryThird": lambda frames: frames[::3],
    "Trail": trail,
    "SequentialTrail": trail,
}


def assert_close(written: Sequence[Pictures], expected: Pictures) -> None:
    """Rounding may differ by one."""
    pictures = np.concatenate(written)
    assert pictures.shape == expected.shape
    assert np.abs(pictures.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("pad", ["last", "zeros", None])
@pytest.mark.parametrize("model", MODELS)
def test_frame_model_result_is_independent_of_batches_and_padding(
    clip: Path, frames: Pictures, model: str, pad: Pad | None
) -> None:
    request = request_for(clip)
    how: dict[str, Any] = {"pad": False} if pad is None else {}
    made = run(model, replace(request, pad=pad or "last"), **how)
    assert_close(made.written, MODELS[model](frames))
    assert made.result.frames == FRAMES
    result = read_clip(made.target)
    assert made.result.results == len(result.times) == len(MODELS[model](frames))
    assert result.size == (made.result.width, made.result.height)
    assert libav_warnings(made.target) == []


@pytest.mark.parametrize("model", MODELS)
def test_frame_model_job_continues_after_kill_with_same_result(
    clip: Path, frames: Pictures, model: str
) -> None:
    whole = read_clip(run(model, request_for(clip)).target)
    for killed in (1, 2, 3):
        request = replace(request_for(clip), work=clip.with_name(f"work-{killed}"))
        made = run(model, replace(request, target=clip.with_name(f"out-{killed}.mp4")), killed)
        assert_close(made.written, MODELS[model](frames))
        assert is_same_clip(read_clip(made.target), whole)


@pytest.mark.parametrize("model", MODELS)
def test_frame_model_results_are_the_same_by_way_of_planes(clip: Path, model: str) -> None:
    request = replace(request_for(clip), pad="zeros")
    rgb = np.concatenate(run(model, request).written)
    made = run(model, request, kill_after=3, planes=True, warm_up_per_clip=True)
    planes = np.concatenate(made.written)
    assert largest_difference(planes, np.stack([scaled_to_planes(picture, 6) for picture in rgb])) <= 1
    assert len(read_clip(made.target).times) == len(rgb)


def test_frame_model_records_are_the_same_by_way_of_planes(clip: Path) -> None:
    made = [run("Brightness", request_for(clip), planes=planes) for planes in (False, True)]
    assert made[0].written == made[1].written


def test_frame_model_gets_rgb_of_a_clip_that_has_no_planes(tmp_path: Path) -> None:
    pictures = [gradient(number) for number in range(BATCH)]
    clip = make_clip(tmp_path / "in.mkv", pictures, codec="ffv1", pix_fmt="yuv444p")
    rgb, planes = (run("Identity", request_for(clip), planes=planes).written[0] for planes in (False, True))
    assert largest_difference(planes, np.stack([scaled_to_planes(picture, 6) for picture in rgb])) <= 1


def test_frame_model_results_between_frames_have_exact_times(clip: Path) -> None:
    made = run("Interpolation", request_for(clip))
    ticks = [*PTS, PTS[-1] + 43]
    between = [divmod(2 * number, 3) for number in range(32)]
    expected = [Fraction(ticks[at] * (3 - part) + ticks[at + 1] * part, 3000) for at, part in between]
    times = read_clip(made.target).times
    assert [time - times[0] for time in times[:-1]] == expected[:-1]
    assert made.result.rate == Fraction(3, 2) * 25


def test_frame_model_records_are_lines_of_frames(clip: Path, frames: Pictures) -> None:
    made = run("Brightness", request_for(clip), kill_after=3)
    target = clip.with_name("out.ndjson")
    records = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [record["frame"] for record in records] == list(range(FRAMES))
    assert [record["time"] for record in records] == [pts / 1000 for pts in PTS]
    assert [record["mean"] for record in records] == pytest.approx(frames.mean((1, 2, 3)), abs=1e-2)
    assert (made.result.kind, made.result.results) == ("records", FRAMES)
    assert not made.target.exists(), "that would be a video"
    assert {record["frame"]: record for batch in made.batches for record in batch.records or ()} == {
        record["frame"]: record for record in records
    }


def test_frame_model_repeats_only_what_no_segment_has(clip: Path) -> None:
    for model, first in (("Trail", 4), ("SequentialTrail", 0)):
        request = replace(request_for(clip), work=clip.with_name(model))
        batches = [batch.index for batch in run(model, request, kill_after=4).batches]
        assert batches == [0, 1, 2, 3, 4, *range(first, 6)]


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"keep": 0.25}},
        {"pad": "zeros"},
        {"model": "SequentialTrail"},
        {"batch_size": 2},
        {"planes": True},
    ],
)
def test_frame_model_never_continues_other_work(clip: Path, change: dict[str, Any]) -> None:
    request = request_for(clip)
    run("Trail", request)
    fields = {name: value for name, value in change.items() if name in ("options", "pad")}
    how = {name: value for name, value in change.items() if name in ("batch_size", "planes")}
    batches = run(change.get("model", "Trail"), replace(request, done=FRAMES, **fields), **how).batches
    assert batches[0].index == 0
    assert run("Trail", replace(request, done=FRAMES)).batches == [], "its own work is complete"


class Wrong(frame_models.Identity):
    """A model that returns what `results` makes of the frames of a job."""

    results: Any = None

    def __call__(self, frames: Any, valid: int) -> Any:
        return type(self).results(frames) if valid else frames


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (
            lambda frames: frames[:1],
            r"returned uint8 \(1, 48, 64, 3\) instead of frames of uint8 \(4, 48, 64, 3\)",
        ),
        (lambda frames: frames.float(), r"returned float32 \(4, 48, 64, 3\) instead of frames"),
        (lambda frames: None, "returned a NoneType instead of frames"),
        (lambda frames: [][1], "raised IndexError: list index out of range"),
    ],
)
def test_frame_model_with_wrong_results_fails_the_job(clip: Path, results: Any, message: str) -> None:
    Wrong.results = staticmethod(results)
    pipeline = VideoPipeline(lambda: find_model(f"{__name__}:Wrong", "wrong"), batch_size=BATCH)
    pipeline.load()
    try:
        with pytest.raises(ModelFailed, match=message):
            pipeline.run_clip(request_for(clip), on_batch=lambda batch: None, canceled=lambda: False)
    finally:
        pipeline.close()


class Latest(frame_models.Plain):
    """Returns, for each frame, the last frame of the batch before, which it keeps as it is."""

    sequential = True

    def start(self, clip: Any, options: Any) -> Any:
        kept: list[Any] = []

        def call(frames: Any, valid: int) -> Any:
            kept.append(frames)
            return kept[-2][-1:].expand_as(frames) if len(kept) > 1 else frames

        return call


def test_frame_model_with_state_may_keep_its_frames(clip: Path, frames: Pictures) -> None:
    pictures = np.concatenate(run("Latest", request_for(clip), spec=f"{__name__}:").written)
    expected = [frames[max(0, number // BATCH * BATCH - 1)] for number in range(BATCH, FRAMES)]
    np.testing.assert_array_equal(pictures[BATCH:], expected)


class WrongState(frame_models.Trail):
    """A model whose state is `wrong`."""

    wrong: Any = None

    def start(self, clip: Any, options: Any) -> Any:
        through = super().start(clip, options)
        through.state = lambda: self.wrong  # type: ignore[attr-defined]
        return through


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"count": 3}, "the state count is a int instead of a tensor"),
        (None, "state returned a NoneType instead of a mapping from names to tensors"),
        ({3: None}, "state returned a dict instead of a mapping from names to tensors"),
    ],
)
def test_frame_model_with_wrong_state_fails_the_job(
    clip: Path, monkeypatch: pytest.MonkeyPatch, state: Any, message: str
) -> None:
    monkeypatch.setattr(WrongState, "wrong", state)
    with pytest.raises(ModelFailed, match=message):
        run("WrongState", request_for(clip), spec=f"{__name__}:")


def test_frame_model_refuses_options_of_another_version(clip: Path) -> None:
    for options, message in (
        ({"keep": 2}, "keep: Input should be less"),
        ({"gone": 1}, "gone: Extra inputs"),
    ):
        with pytest.raises(InvalidOptions, match=f"^the model does not take {message}"):
            run("Trail", request_for(clip, **options))


class NoStart:
    """A class that is no model."""

    Options = frame_models.TrailOptions
    load = output = lambda self: None


class NoLoad(FrameModel):
    """A class whose author forgot a method that `FrameModel` describes."""

    Options = frame_models.TrailOptions
    output = frame_models.Identity.output
    start = frame_models.Identity.start


class LoadsNothing(frame_models.Identity):
    """A model whose `load` returns nothing."""

    @classmethod
    def load(cls, weights: Any, device: Any) -> Any:
        pass


class StartsNothing(frame_models.Identity):
    """A model whose `start` returns nothing."""

    def start(self, clip: Any, options: Any) -> Any:
        pass


class HalfState(frame_models.Identity):
    """A model whose state cannot be restored."""

    def state(self) -> dict[str, Any]:
        return {}


class NestedOptions(frame_models.TrailOptions):
    """Options that no form can have."""

    places: tuple[int, ...] = ()


class Nested(frame_models.Identity):
    """A model with such options."""

    Options = NestedOptions


class ReservedOptions(frame_models.TrailOptions):
    """Options of which one has the name of a field of the job."""

    pad: int = 1


class Reserved(frame_models.Identity):
    """A model with such options."""

    Options = ReservedOptions


class NoSchemaOptions(frame_models.TrailOptions):
    """Options whose schema is none."""

    level: int = Field(1, json_schema_extra={"minimum": "low"})


class NoSchema(frame_models.Identity):
    """A model with such options."""

    Options = NoSchemaOptions


class Raises(frame_models.Identity):
    """A model that fails when it is loaded."""

    @classmethod
    def load(cls, weights: Any, device: Any) -> Any:
        raise OSError("no such device")


class WrongSize(frame_models.Identity):
    """A model that promises another size than it makes."""

    output = frame_models.Double.output


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"{__name__}:NoStart", "is not a frame model: it has no method start"),
        (f"{__name__}:NoLoad", "is not a frame model: it has no method load"),
        (f"{__name__}:LoadsNothing", "load returned a NoneType instead of the model"),
        (f"{__name__}:StartsNothing", "start returned a NoneType instead of a pass"),
        (f"{__name__}:HalfState", "the model's pass has the method state and no method restore"),
        (f"{__name__}:Nested", "is not a frame model: its option places must be a single value"),
        (f"{__name__}:Reserved", "its option pad has the name of a field that each video job has"),
        (f"{__name__}:NoSchema", r"its Options have no JSON schema \('low' is not of type 'number'\)"),
        (f"{__name__}:Missing", r"cannot be imported \(AttributeError"),
        ("no_such_package.models:Model", r"cannot be imported \(ModuleNotFoundError: No module named"),
        ("unknown", "there is no video model unknown: name one of selfie_segmentation"),
        ("/no/such/file.pt2", "the weights of the video model do not exist: /no/such/file.pt2"),
        (f"{__name__}:Raises", "the video model x cannot be used: the model raised OSError: no such device"),
        (
            f"{__name__}:WrongSize",
            r"returned uint8 \(4, 64, 64, 3\) instead of frames of uint8 \(4, 128, 128",
        ),
    ],
)
def test_frame_model_that_breaks_its_contract_is_one_sentence_at_start(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        VideoPipeline(lambda: find_model(spec, "x"), batch_size=BATCH).load()
    assert "\n" not in str(raised.value)
