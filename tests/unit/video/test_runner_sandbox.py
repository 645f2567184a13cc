"""The video runner and a clip whose frame cannot be interrupted: the job ends, and the next one runs."""

from collections.abc import Iterator

import psutil
import pytest

from tests.support.stack import eventually
from tests.support.video.bombs import many_scans
from tests.support.video.jobs import WAIT_S, VideoHarness, video_harness
from tests.support.video.sandboxes import shared_sandboxes
from worker.jobs.ledger.ledger import Ledger

A, B = "a" * 32, "b" * 32


@pytest.fixture
def harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoHarness]:
    with video_harness(ledger, monkeypatch) as harness:
        yield harness


#: The state and the error code of the job.
ENDINGS = {"timeout": ("failed", "timeout"), "cancel": ("canceled", None), "crash": ("failed", "bad_video")}


@pytest.mark.parametrize("ending", ENDINGS)
def test_video_runner_ends_clip_inside_a_frame_and_serves_next(harness: VideoHarness, ending: str) -> None:
    """libav would decode the clip's fourth frame for two minutes. A batch has three."""
    runner = harness.worker()
    many_scans(harness.submit(A, timeout_s=0.5 if ending == "timeout" else None).clip, 200_000)
    thread = harness.start(harness.claim(A), runner)
    eventually(lambda: harness.batches(A, 1), "the batch before the frame", WAIT_S)
    (sandbox,) = psutil.Process(shared_sandboxes().server_pid).children()
    if ending == "timeout":
        assert eventually(harness.ledger.end_overdue, "an overdue job") == [A]
    elif ending == "cancel":
        harness.ledger.cancel(A)
    else:
        sandbox.kill()
    thread.join(WAIT_S)
    job = harness.ledger.get(A)
    expected = {
        "timeout": ("failed", "timeout"),
        "cancel": ("canceled", None),
        "crash": ("failed", "bad_video"),
    }
    assert (job.state, job.error and job.error["code"]) == expected[ending]
    assert not sandbox.is_running()
    harness.submit(B)
    thread = harness.start(harness.claim(B), runner)
    thread.join(WAIT_S)
    assert harness.ledger.get(B).state == "succeeded"
    assert harness.broken == []
