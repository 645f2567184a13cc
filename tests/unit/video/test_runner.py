"""The video runner: final states of its jobs, and the files that a job leaves in its folder."""

import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import pytest
import torch

from tests.support.job_ids import A, B
from tests.support.video.broken_clips import damaged
from tests.support.video.clips import libav_warnings, read_clip
from tests.support.video.jobs import WAIT_S, Hold, VideoHarness, video_harness
from worker.devices.lease import DeviceLease
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import EngineDied
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.limits import ClipSize, Limits
from worker.jobs.logs.formats import TextLines
from worker.jobs.logs.redaction import Redactor
from worker.jobs.metrics.series import grouped
from worker.runners import make_runner
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner
from worker.video import runner_factory
from worker.video.publisher import Publisher
from worker.video.request import PipelineCanceled


@pytest.fixture
def harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoHarness]:
    with video_harness(ledger, monkeypatch) as harness:
        yield harness


def test_video_runner_job_leaves_clip_and_result_only(harness: VideoHarness) -> None:
    files = harness.submit(A)
    harness.runner.run_job(harness.claim(A))
    job = harness.ledger.get(A)
    assert (job.state, job.done, job.total) == ("succeeded", 25, 25)
    assert job.usage is not None
    assert (job.usage["frames"], job.usage["batches"], job.usage["padded_frames"]) == (25, 9, 2)
    assert job.result is not None
    assert job.result["bytes"] == files.result.stat().st_size
    assert job.result["duration_s"] == 1
    assert job.result["audio"] == [
        {"stream": 1, "codec": "aac", "action": "copied", "reason": None, "silence_s": 0.0}
    ]
    assert job.result["subtitles"] == []
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]
    assert libav_warnings(files.result) == []
    assert harness.broken == []


def test_video_runner_next_attempt_continues_and_counts_each_batch_once(harness: VideoHarness) -> None:
    files = harness.submit(A)
    harness.hand_back(A, 7)
    assert os.listdir(files.work), "finished segments must stay for the next attempt"
    assert not files.result.exists()

    harness.runner.run_job(harness.claim(A))
    assert harness.batches(A, 1) == [0, 1, 2, 3, 4, 5, 6]
    assert harness.batches(A, 2) == [6, 7, 8]
    batches = [event.data for event in harness.ledger.events(A) if event.type == "batch"]
    assert {(batch["worker"], batch["device"]) for batch in batches} == {("w", "cpu")}
    assert harness.progress(A, 2) == [21, 24, 25]
    stored = grouped(MetricsStore(harness.ledger.store).read())
    work = [
        sum(stored[f"stoker_video_{unit}_total"].values()) for unit in ("batches", "frames", "padded_frames")
    ]
    assert work == [10, 28, 2]  # batch 6 ran twice
    stages = {stage: busy for (_, stage), busy in stored["stoker_video_seconds_total"].items()}
    assert stages.keys() == {"decode", "copy", "model", "encode", "store"}
    assert min(stages.values()) > 0
    job = harness.ledger.get(A)
    assert (job.state, job.done) == ("succeeded", 25)
    assert job.stages.keys() == {"1", "2"}
    assert min(sum(each.values()) for each in job.stages.values()) > 0  # in milliseconds
    assert job.usage is not None
    assert (job.usage["frames"], job.usage["batches"], job.usage["padded_frames"]) == (25, 9, 2)
    assert len(read_clip(files.result).times) == 25
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


@pytest.mark.parametrize("at", [0, 3, 8])
def test_video_runner_stale_attempt_changes_nothing(harness: VideoHarness, at: int) -> None:
    """The stale attempt was paused. It resumes after another attempt has finished the job."""
    files = harness.submit(A)
    stale, hold = harness.claim(A, "stopped"), Hold(at)
    harness.model.on_call = hold
    thread = harness.start(stale)
    assert hold.reached.wait(WAIT_S)
    harness.model.on_call = lambda call: None
    harness.ledger.requeue(A, "stopped", "drain")
    harness.runner.run_job(harness.claim(A, "other"))
    content = files.result.read_bytes()
    hold.go_on.set()
    thread.join(WAIT_S)
    assert stale.outcome == "abandoned"
    assert files.result.read_bytes() == content
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]
    assert harness.ledger.get(A).state == "succeeded"


def test_video_runner_stale_attempt_leaves_files_of_running_attempt(harness: VideoHarness) -> None:
    files = harness.submit(A)
    stale, early, late = harness.claim(A, "stopped"), Hold(3), Hold(8)

    def on_call(call: int) -> None:
        early(call)
        late(call)

    harness.model.on_call = on_call
    threads = [harness.start(stale)]
    assert early.reached.wait(WAIT_S)
    harness.ledger.requeue(A, "stopped", "drain")
    threads.append(harness.start(harness.claim(A, "other")))
    assert late.reached.wait(WAIT_S)
    early.go_on.set()
    threads[0].join(WAIT_S)
    assert stale.outcome == "abandoned"
    assert os.listdir(files.work)
    late.go_on.set()
    threads[1].join(WAIT_S)
    assert harness.ledger.get(A).state == "succeeded"
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


def test_publisher_publishes_segments_of_a_job_that_goes_on_elsewhere(harness: VideoHarness) -> None:
    """And nothing of a canceled job, whose encoders would finish their segments for that."""
    files, run = harness.submit(A), harness.claim(A)
    files.work.mkdir()
    partial = files.work / "segment.partial"
    partial.write_bytes(b"a segment")
    with Publisher(run, files) as publisher:
        run.abandon()
        publisher(partial, files.work / "segment")
    assert (files.work / "segment").read_bytes() == b"a segment"
    harness.ledger.requeue(A, "w", "drain")
    run = harness.claim(A)
    with Publisher(run, files) as publisher:
        run.stop()
        with pytest.raises(PipelineCanceled):
            publisher(partial, files.work / "another")


def test_video_runner_canceled_job_leaves_clip_only(harness: VideoHarness) -> None:
    files = harness.submit(A)

    def on_call(call: int) -> None:
        if call == 4:
            harness.ledger.cancel(A)

    harness.model.on_call = on_call
    files.result.write_bytes(b"the result of an attempt that was killed just after publishing")
    harness.runner.run_job(harness.claim(A))
    assert harness.ledger.get(A).state == "canceled"
    assert harness.model.calls == 5
    assert os.listdir(files.folder) == ["clip"]


def test_video_runner_damaged_clip_leaves_clip_only(harness: VideoHarness, tmp_path: Path) -> None:
    files = harness.submit(A)
    damaged(tmp_path).rename(files.clip)
    harness.runner.run_job(harness.claim(A))
    job = harness.ledger.get(A)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "bad_video"
    assert harness.model.calls > 4, "the damage must come after the first segment"
    assert os.listdir(files.folder) == ["clip"]


def test_video_runner_refuses_clip_beyond_its_own_limits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with video_harness(ledger, monkeypatch, limits=Limits(max_duration_s=0.5)) as harness:
        files = harness.submit(A)
        harness.runner.run_job(harness.claim(A))
    assert ledger.get(A).error == {
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
def test_video_runner_fails_job_out_of_memory_and_serves_next(
    harness: VideoHarness, shortage: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # else pytest's log record keeps the error, and with it the tensors
    files = harness.submit(A)
    held: list[weakref.ref[torch.Tensor]] = []

    def on_call(call: int) -> None:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        if call == 4:
            shortage(call)

    harness.model.on_call = on_call
    harness.runner.run_job(harness.claim(A))
    job = harness.ledger.get(A)
    assert (job.state, harness.broken) == ("failed", [])
    assert job.error is not None
    assert job.error["code"] == "out_of_memory"
    assert "not enough memory" in job.error["message"]
    assert os.listdir(files.folder) == ["clip"]
    assert [tensor() for tensor in held] == [None] * 5
    harness.model.on_call = lambda call: None
    harness.submit(B)
    harness.runner.run_job(harness.claim(B))
    assert harness.ledger.get(B).state == "succeeded"


class UnexpectedError(Exception):
    """An error of no kind that the runner knows."""


@pytest.mark.parametrize("error", [UnexpectedError("x"), RuntimeError("shapes cannot be multiplied")])
def test_video_runner_fails_job_on_unexpected_error(
    harness: VideoHarness, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    files = harness.submit(A)

    def on_call(call: int) -> None:
        if call == 4:
            raise error

    harness.model.on_call = on_call
    harness.runner.run_job(harness.claim(A))
    job = harness.ledger.get(A)
    assert job.error is not None
    assert (job.error["code"], harness.model.calls) == ("model_failed", 5)
    assert job.error["message"].endswith(f"{type(error).__name__}: {error}")
    assert os.listdir(files.folder) == ["clip"]
    [record] = [record for record in caplog.records if record.name == "worker.video.pipeline"]
    assert re.search(r" at test_runner\.py:\d+ on_call < ", TextLines(Redactor()).format(record))


def test_video_runner_three_jobs_in_a_row_that_the_model_fails_end_the_worker(harness: VideoHarness) -> None:
    def run(job_id: str, fails: bool) -> str:
        def on_call(call: int) -> None:
            if fails:
                raise UnexpectedError("x")

        harness.model.on_call = on_call
        harness.submit(job_id)
        harness.runner.run_job(harness.claim(job_id))
        return harness.ledger.get(job_id).state

    for number, fails in enumerate([True, True, False, True, True]):
        assert run(f"{number:032}", fails) == ("failed" if fails else "succeeded")
    assert harness.broken == []
    assert run(f"{5:032}", fails=True) == "failed"
    assert [str(error) for error in harness.broken] == ["the model has failed 3 jobs in a row"]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
def test_video_runner_lost_device_ends_worker_and_keeps_job(harness: VideoHarness, error: Exception) -> None:
    files, reported = harness.submit(A), threading.Event()

    def on_call(call: int) -> None:
        if call == 7:
            raise error

    def on_broken(error: BaseException) -> None:
        harness.broken.append(error)
        reported.set()

    harness.model.on_call = on_call
    harness.runner.start(on_broken)
    run = harness.claim(A)
    thread = harness.start(run, harness.runner)
    assert reported.wait(WAIT_S)
    assert "CUDA error" in str(harness.broken[0])
    assert (run.outcome, harness.ledger.get(A).state) == (None, "running")
    run.abandon()  # as the lane does when its worker drains
    harness.ledger.requeue(A, "w", "drain")
    thread.join(WAIT_S)
    harness.model.on_call = lambda call: None
    harness.worker().run_job(harness.claim(A))
    assert harness.batches(A, 2) == [6, 7, 8]
    assert harness.ledger.get(A).state == "succeeded"
    assert sorted(os.listdir(files.folder)) == ["clip", "result.mp4"]


def test_video_runner_reports_hanging_device(harness: VideoHarness) -> None:
    runner = harness.worker(hang_s=0.01)
    harness.submit(A)
    run, hold, broken = harness.claim(A), Hold(4), threading.Event()
    harness.model.on_call = hold
    runner.start(lambda error: broken.set() if isinstance(error, EngineDied) else None)
    thread = harness.start(run, runner)
    assert hold.reached.wait(WAIT_S)
    run.stop()
    assert broken.wait(WAIT_S)
    hold.go_on.set()
    thread.join(WAIT_S)


def make_test_runner(ledger: Ledger, gpus: Sequence[str], **changes: object) -> Runner:
    """Return the runner of a video worker that has leased so many GPUs."""
    return make_runner(
        "video",
        ledger.store.settings.replace(**changes),
        DeviceLease(",".join(gpus) or "cpu", "cuda" if gpus else "cpu", [StringIO() for _ in gpus]),
        ledger,
        Outbox(Dispatcher(ledger.store)),
    )


@pytest.mark.parametrize(("gpus", "video_slots", "slots"), [(0, None, 1), (1, None, 2), (0, 3, 3), (1, 1, 1)])
def test_make_runner_has_two_slots_on_gpu_unless_settings_tell(
    ledger: Ledger, gpus: int, video_slots: int | None, slots: int
) -> None:
    assert make_test_runner(ledger, ["GPU-a"] * gpus, video_slots=video_slots).slots == slots


def test_make_runner_passes_settings_to_video_pipeline(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(runner_factory, "VideoPipeline", lambda weights, **how: seen.update(how))
    changes = {
        "compile": True,
        "video_sizes": "64x48",
        "batch_size": 3,
        "video_model": str(tmp_path),
    }
    make_test_runner(ledger, ["GPU-a"], **changes)
    assert (seen["compiled"], seen["sizes"]) == (True, (ClipSize(64, 48),))
    assert (seen["batch_size"], seen["device"]) == (3, "cuda")


def test_video_runner_runs_all_clips_in_thread_that_loaded_model(harness: VideoHarness) -> None:
    """cuDNN keeps the results of its trials during warm-up for that thread alone."""
    threads: list[int] = []
    harness.model.on_load = lambda: threads.append(threading.get_ident())
    harness.model.on_call = lambda call: threads.append(threading.get_ident())
    runner = harness.worker()
    for job_id in (A, B):
        harness.submit(job_id)
        harness.start(harness.claim(job_id), runner).join(WAIT_S)
        assert harness.ledger.get(job_id).state == "succeeded"
    assert len(threads) == 1 + 9 + 9
    assert len(set(threads)) == 1


@pytest.mark.parametrize(("user", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_make_runner_lets_waiting_threads_of_torch_sleep(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, user: str | None, expected: str
) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": user} if user else {})
    make_test_runner(ledger, [])
    assert os.environ["OMP_WAIT_POLICY"] == expected
