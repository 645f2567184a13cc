"""The thread of the device: the order of its calls, waiting callers that give up, and a lost device."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from tests.support.stack import eventually
from worker.jobs.errors import EngineDied, OutOfMemory
from worker.jobs.logs.context import about, current
from worker.video.inference import device_thread
from worker.video.inference.device_thread import DeviceThread

WAIT_S = 20.0


class GivesUpError(Exception):
    """The error of a caller that waits no longer."""


def give_up() -> None:
    raise GivesUpError


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceThread]:
    monkeypatch.setattr(device_thread, "WAIT_S", 0.01)
    thread = DeviceThread()
    yield thread
    thread.stop()


def test_device_thread_skips_call_of_waiting_caller_that_gives_up(thread: DeviceThread) -> None:
    release, called = threading.Event(), threading.Event()
    busy = thread.submit(lambda: release.wait(WAIT_S))
    with pytest.raises(GivesUpError):
        thread.call(called.set, give_up)
    release.set()
    assert busy.result(WAIT_S)
    assert thread.call(lambda: "next") == "next"
    assert not called.is_set()


def test_device_thread_takes_calls_of_several_clips_in_their_order(thread: DeviceThread) -> None:
    release, order = threading.Event(), list[str]()
    thread.submit(lambda: release.wait(WAIT_S))
    calls = [thread.submit(partial(order.append, clip)) for clip in "abcabc"]
    release.set()
    for call in calls:
        call.result(WAIT_S)
    assert order == list("abcabc")


def test_device_thread_waits_for_call_that_has_begun(thread: DeviceThread) -> None:
    checks, release = list[int](), threading.Event()

    def check() -> None:
        checks.append(len(checks))
        if len(checks) == 2:
            release.set()
        raise GivesUpError

    begun = threading.Event()

    def work() -> str:
        begun.set()
        assert release.wait(WAIT_S)
        return "done"

    def check_once_begun() -> None:
        if begun.is_set():
            check()

    assert thread.call(work, check_once_begun) == "done"
    assert len(checks) >= 2


@pytest.mark.parametrize(
    "error",
    [
        EngineDied("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with"),
    ],
)
def test_device_thread_runs_nothing_after_lost_device(thread: DeviceThread, error: Exception) -> None:
    called = threading.Event()

    def lose() -> None:
        raise error

    with pytest.raises(type(error)):
        thread.call(lose)
    with pytest.raises(EngineDied, match=r"^CUDA error: an illegal memory access was encountered$"):
        thread.call(called.set)
    assert not called.is_set()


def test_device_thread_goes_on_after_other_errors(thread: DeviceThread) -> None:
    def run_out() -> None:
        raise OutOfMemory("there was not enough memory for this clip")

    with pytest.raises(OutOfMemory):
        thread.call(run_out)
    assert thread.call(lambda: "next") == "next"


def test_device_thread_logs_with_fields_of_caller(thread: DeviceThread) -> None:
    with about(job="a"):
        assert thread.call(current)["job"] == "a"
    assert "job" not in thread.call(current)


def test_device_thread_keeps_no_result(thread: DeviceThread) -> None:
    class Result:
        pass

    alive = threading.Event()
    alive.set()

    class Watched(Result):
        def __del__(self) -> None:
            alive.clear()

    thread.call(Watched)
    eventually(lambda: not alive.is_set(), "the end of the result", WAIT_S)
