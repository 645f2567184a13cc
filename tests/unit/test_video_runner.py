"""Video jobs between the ledger and the pipeline: how they end, who owns the files, and what is left."""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.support.clips import ScriptedModel, complaints, read_clip, scripted, with_sound
from tests.unit.test_video_reader import damaged
from worker.devices.lease import DeviceLease
from worker.jobs.errors import EngineDied
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.limits import ClipSize
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import validate
from worker.runners import make_runner
from worker.runs.outbox import Outbox
from worker.runs.run import Run
from worker.video import pipeline, runner
from worker.video.pipeline import VideoPipeline
from worker.video.runner import VideoRunner

WAIT_S = 20.0


class Bench:
    """A ledger with video jobs of 25 frames, in batches of 3 and segments of 2, and workers for them."""

    def __init__(self, ledger: Ledger, video: VideoPipeline, model: ScriptedModel) -> None:
        self.ledger = ledger
        self.model = model
        self.outbox = Outbox(ledger)
        self.outbox.start()
        self.video = video
        self.broken: list[BaseException] = []
        self.runner = self.worker()

    def worker(self, **settings: object) -> VideoRunner:
        """The runner of another worker: it has one thread, and so one clip at a time."""
        runner = VideoRunner(self.video, self.ledger.settings.replace(**settings))
        runner.start(self.broken.append)
        return runner

    def submit(self, job_id: str) -> JobFiles:
        files = JobFiles.at(self.ledger.settings.media_dir, job_id)
        files.folder.mkdir(parents=True)
        with_sound(files.folder / "clip.mp4", "aac").rename(files.clip)
        self.ledger.submit(job_id, "video.scripted", validate("video", {"effect": "matte"}))
        return files

    def claim(self, job_id: str, worker: str = "w") -> Run:
        record = self.ledger.claim(job_id, worker, "cpu")
        assert record is not None
        return Run(record, self.outbox)

    def start(self, run: Run, runner: VideoRunner | None = None) -> threading.Thread:
        thread = threading.Thread(target=(runner or self.worker()).run_job, args=(run,))
        thread.start()
        return thread

    def hand_back(self, job_id: str, call: int) -> None:
        """Run the job up to that call of the model, and take it away from the worker meanwhile."""
        run, stop = self.claim(job_id), Stop(call)
        self.model.on_call = stop
        thread = self.start(run)
        assert stop.reached.wait(WAIT_S)
        run.abandon()
        self.ledger.requeue(job_id, "w", "drain")
        stop.go_on.set()
        thread.join(WAIT_S)

    def batches(self, job_id: str, attempt: int) -> list[int]:
        return [e.data["index"] for e in self._events(job_id, attempt) if e.type == "batch"]

    def progress(self, job_id: str, attempt: int) -> list[int]:
        return [e.data["done"] for e in self._events(job_id, attempt) if e.type == "progress"]

    def _events(self, job_id: str, attempt: int) -> list[LoggedEvent]:
        return [event for event in self.ledger.events(job_id) if event.data["attempt"] == attempt]


@pytest.fixture
def bench(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    model = ScriptedModel()
    with scripted(monkeypatch, model, 3, 2) as video:
        bench = Bench(ledger, video, model)
        yield bench
        bench.outbox.stop(WAIT_S)


def test_a_job_ends_with_its_result_and_nothing_else(bench: Bench) -> None:
    files = bench.submit("a")
    bench.runner.run_job(bench.claim("a"))
    job = bench.ledger.get("a")
    assert (job.state, job.done, job.total) == ("succeeded", 25, 25)
    assert job.usage is not None
    assert (job.usage["frames"], job.usage["batches"], job.usage["padded_frames"]) == (25, 9, 2)
    assert job.result is not None
    assert job.result["bytes"] == files.result.stat().st_size
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]
    assert complaints(files.result) == []
    assert bench.broken == []


class Stop:
    """Holds the model at call number `at`, until told to go on."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, call: int) -> None:
        if call == self._at:
            self.reached.set()
            assert self.go_on.wait(WAIT_S)


def test_the_next_attempt_goes_on_and_each_batch_counts_once(bench: Bench) -> None:
    files = bench.submit("a")
    bench.hand_back("a", 7)
    assert os.listdir(files.work), "what is done is kept for the next attempt"
    assert not files.result.exists()

    bench.runner.run_job(bench.claim("a"))
    assert bench.batches("a", 1) == [0, 1, 2, 3, 4, 5, 6]
    assert bench.batches("a", 2) == [6, 7, 8]
    assert bench.progress("a", 2) == [21, 24, 25]
    job = bench.ledger.get("a")
    assert (job.state, job.done) == ("succeeded", 25)
    assert job.usage is not None
    assert (job.usage["frames"], job.usage["batches"], job.usage["padded_frames"]) == (25, 9, 2)
    assert len(read_clip(files.result).times) == 25
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


@pytest.mark.parametrize("at", [0, 3, 8])
def test_an_attempt_that_lost_its_job_without_knowing_changes_nothing(bench: Bench, at: int) -> None:
    """It was stopped for a while; it goes on when another attempt runs, or when that has ended."""
    files = bench.submit("a")
    stale, stop = bench.claim("a", "stopped"), Stop(at)
    bench.model.on_call = stop
    thread = bench.start(stale)
    assert stop.reached.wait(WAIT_S)
    bench.model.on_call = lambda call: None
    bench.ledger.requeue("a", "stopped", "drain")
    bench.runner.run_job(bench.claim("a", "other"))
    content = files.result.read_bytes()
    stop.go_on.set()
    thread.join(WAIT_S)
    assert stale.outcome == "abandoned"
    assert files.result.read_bytes() == content
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]
    assert bench.ledger.get("a").state == "succeeded"


def test_an_attempt_that_lost_its_job_leaves_the_files_of_the_other(bench: Bench) -> None:
    files = bench.submit("a")
    stale, early, late = bench.claim("a", "stopped"), Stop(3), Stop(8)

    def on_call(call: int) -> None:
        early(call)
        late(call)

    bench.model.on_call = on_call
    threads = [bench.start(stale)]
    assert early.reached.wait(WAIT_S)
    bench.ledger.requeue("a", "stopped", "drain")
    threads.append(bench.start(bench.claim("a", "other")))
    assert late.reached.wait(WAIT_S)
    early.go_on.set()
    threads[0].join(WAIT_S)
    assert stale.outcome == "abandoned"
    assert os.listdir(files.work)
    late.go_on.set()
    threads[1].join(WAIT_S)
    assert bench.ledger.get("a").state == "succeeded"
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


def test_a_canceled_job_leaves_nothing(bench: Bench) -> None:
    files = bench.submit("a")

    def on_call(call: int) -> None:
        if call == 4:
            bench.ledger.cancel("a")

    bench.model.on_call = on_call
    files.result.write_bytes(b"of an attempt that was killed before it could say so")
    bench.runner.run_job(bench.claim("a"))
    assert bench.ledger.get("a").state == "canceled"
    assert bench.model.calls == 5
    assert os.listdir(files.folder) == ["clip"]


def test_a_clip_that_turns_out_damaged_late_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    files = bench.submit("a")
    damaged(tmp_path).rename(files.clip)
    bench.runner.run_job(bench.claim("a"))
    job = bench.ledger.get("a")
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "bad_video"
    assert bench.model.calls > 4, "segments were there"
    assert os.listdir(files.folder) == ["clip"]


def test_a_clip_that_passes_this_workers_limits_is_a_bad_video(ledger: Ledger, bench: Bench) -> None:
    files = bench.submit("a")
    bench.worker(max_duration_s=0.5).run_job(bench.claim("a"))
    assert bench.ledger.get("a").error == {
        "code": "bad_video",
        "message": "The clip is longer than 0.5 seconds.",
    }
    assert os.listdir(files.folder) == ["clip"]


def cuda_memory(call: int) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def cublas_memory(call: int) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def cudnn_memory(call: int) -> None:
    raise RuntimeError("FIND was unable to find an engine to execute this computation")


def cudnn_attention_memory(call: int) -> None:
    what = "mha_graph.execute(handle, variant_pack, workspace_ptr.get()).is_good()"
    raise RuntimeError(f"Expected {what} to be true, but got false.")


def torch_memory(call: int) -> None:
    torch.empty(2**60, dtype=torch.uint8)


def python_memory(call: int) -> None:
    bytearray(2**60)


@pytest.mark.parametrize(
    "shortage",
    [cuda_memory, cublas_memory, cudnn_memory, cudnn_attention_memory, torch_memory, python_memory],
)
def test_a_job_without_enough_memory_fails_and_the_next_is_served(
    bench: Bench, shortage: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest would keep the error in its record
    files = bench.submit("a")
    held: list[weakref.ref[torch.Tensor]] = []

    def on_call(call: int) -> None:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        if call == 4:
            shortage(call)

    bench.model.on_call = on_call
    bench.runner.run_job(bench.claim("a"))
    job = bench.ledger.get("a")
    assert (job.state, bench.broken) == ("failed", [])
    assert job.error is not None
    assert job.error["code"] == "out_of_memory"
    assert "not enough memory" in job.error["message"]
    assert os.listdir(files.folder) == ["clip"]
    assert [tensor() for tensor in held] == [None] * 5
    bench.model.on_call = lambda call: None
    bench.submit("b")
    bench.runner.run_job(bench.claim("b"))
    assert bench.ledger.get("b").state == "succeeded"


class Own(Exception):
    """An error that nobody foresaw."""


@pytest.mark.parametrize("error", [Own("x"), RuntimeError("shapes cannot be multiplied")])
def test_an_unforeseen_error_fails_the_job_and_leaves_nothing(bench: Bench, error: Exception) -> None:
    files = bench.submit("a")

    def on_call(call: int) -> None:
        if call == 4:
            raise error

    bench.model.on_call = on_call
    bench.runner.run_job(bench.claim("a"))
    job = bench.ledger.get("a")
    assert job.error is not None
    assert (job.error["code"], bench.model.calls) == ("engine_failed", 5)
    assert os.listdir(files.folder) == ["clip"]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
def test_a_lost_device_ends_the_worker_and_not_the_job(bench: Bench, error: Exception) -> None:
    files, told = bench.submit("a"), threading.Event()

    def on_call(call: int) -> None:
        if call == 7:
            raise error

    def on_broken(error: BaseException) -> None:
        bench.broken.append(error)
        told.set()

    bench.model.on_call = on_call
    bench.runner.start(on_broken)
    run = bench.claim("a")
    thread = bench.start(run, bench.runner)
    assert told.wait(WAIT_S)
    assert "CUDA error" in str(bench.broken[0])
    assert (run.outcome, bench.ledger.get("a").state) == (None, "running")
    run.abandon()  # as the lane does when it hands back
    bench.ledger.requeue("a", "w", "drain")
    thread.join(WAIT_S)
    bench.model.on_call = lambda call: None
    bench.runner.run_job(bench.claim("a"))
    assert bench.batches("a", 2) == [6, 7, 8]
    assert bench.ledger.get("a").state == "succeeded"
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


def test_a_device_that_does_not_come_back_from_a_clip_ends_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HANG_S", 0.01)
    bench.submit("a")
    run, stop, broken = bench.claim("a"), Stop(4), threading.Event()
    bench.model.on_call = stop
    bench.runner.start(lambda error: broken.set() if isinstance(error, EngineDied) else None)
    thread = bench.start(run, bench.runner)
    assert stop.reached.wait(WAIT_S)
    run.stop()
    assert broken.wait(WAIT_S)
    stop.go_on.set()
    thread.join(WAIT_S)


def test_what_a_worker_is_told_reaches_its_pipeline(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(pipeline, "VideoPipeline", lambda weights, **how: seen.update(how))
    told = {"pad": False, "compile": True, "video_sizes": "64x48", "batch_size": 3, "video_model": tmp_path}
    make_runner(
        "video", ledger.settings.replace(**told), DeviceLease("GPU-a", "cuda", []), ledger, Outbox(ledger)
    )
    assert (seen["pad"], seen["compiled"], seen["sizes"]) == (False, True, [ClipSize(64, 48)])
    assert (seen["batch_size"], seen["device"]) == (3, "cuda")


def test_all_clips_are_made_in_the_thread_that_loaded_the_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cuDNN learns while it warms up counts for that thread alone."""
    threads: list[int] = []
    load = VideoPipeline.load

    def spy(self: VideoPipeline) -> None:
        threads.append(threading.get_ident())
        load(self)

    monkeypatch.setattr(VideoPipeline, "load", spy)
    bench.model.on_call = lambda call: threads.append(threading.get_ident())
    runner = bench.worker()
    for job_id in ("a", "b"):
        bench.submit(job_id)
        bench.start(bench.claim(job_id), runner).join(WAIT_S)
        assert bench.ledger.get(job_id).state == "succeeded"
    assert len(threads) == 1 + 9 + 9
    assert len(set(threads)) == 1
