"""The seconds that the stages of a clip's pipeline were busy."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import gradient, make_clip
from tests.support.video.pipeline import stub_pipeline
from worker.jobs.metrics.video import Stage
from worker.video.inference.copy_clock import CopyClock
from worker.video.request import VideoRequest
from worker.video.stages import Stages


def test_stages_add_up_until_they_are_taken() -> None:
    stages = Stages()
    stages.add("copy", 1.0)
    stages.add("copy", 0.5)
    stages.add("model", 2.0)
    assert stages.take() == {"copy": 1.5, "model": 2.0}
    assert stages.take() == {}
    stages.add("copy", 1.0)
    assert stages.taken == {"copy": 1.5, "model": 2.0}
    stages.take()
    assert stages.taken == {"copy": 2.5, "model": 2.0}


def test_stages_count_block_that_raises() -> None:
    stages = Stages()
    with pytest.raises(ZeroDivisionError), stages.busy("encode"):
        _ = 1 // 0
    assert stages.take()["encode"] > 0


def test_pipeline_measures_stages_of_clip(tmp_path: Path) -> None:
    """The request's own function publishes files, and so does not count. The join counts for the store."""
    clip = make_clip(tmp_path / "in.mp4", [gradient(n) for n in range(10)])
    request = VideoRequest(clip, tmp_path / "out.mp4", tmp_path / "work", {"effect": "background"})
    batches: list[Mapping[Stage, float]] = []
    pause_s = 0.02

    def pause(call: int) -> None:
        threading.Event().wait(pause_s)

    with stub_pipeline(StubVideoModel(pause), batch_size=4, segment_batches=2) as pipeline:
        pipeline.run_clip(
            request, on_batch=lambda batch: batches.append(request.stages.take()), canceled=lambda: False
        )
    assert [seconds["model"] >= pause_s for seconds in batches] == [True] * 3
    assert batches[0].keys() >= {"decode", "copy", "model"}
    rest = request.stages.take()
    assert rest.keys() >= {"encode", "store"}
    assert not {"copy", "model"} & rest.keys()


class Event:
    """A CUDA event of a GPU that has copied for 2 ms. It cannot be waited for."""

    passed = True

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.passed

    def elapsed_time(self, end: Any) -> float:
        assert end.passed
        return 2.0


def test_copy_clock_of_gpu_reads_events_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = CopyClock(torch.device("cuda"))
    for _ in range(2):
        with clock.copying():
            pass
    assert clock.seconds == 0.004
    monkeypatch.setattr(Event, "passed", False)
    assert clock.seconds == 0


def test_copy_clock_of_cpu_adds_up_blocks() -> None:
    clock = CopyClock(torch.device("cpu"))
    with clock.copying():
        threading.Event().wait(0.01)
    assert clock.seconds >= 0.01
