"""Tests of reusable daemon threads."""

import threading

import pytest

from worker.jobs.daemon_threads import DaemonThreads

WAIT_S = 20.0


def test_call_returns_or_raises_in_the_only_thread() -> None:
    threads = DaemonThreads("device", limit=1)
    inside = {threads.call(threading.get_ident) for _ in range(3)}
    assert len(inside) == 1
    assert threading.get_ident() not in inside
    with pytest.raises(ZeroDivisionError):
        threads.call(lambda: 1 // 0)
    assert threads.call(lambda: "still there") == "still there"


def test_submit_makes_as_many_threads_as_are_busy_at_once() -> None:
    threads, release, both = DaemonThreads("job"), threading.Event(), threading.Barrier(3)

    def work() -> int:
        both.wait(WAIT_S)
        release.wait(WAIT_S)
        return threading.get_ident()

    busy = [threads.submit(work) for _ in range(2)]
    both.wait(WAIT_S)  # both run, although neither has ended
    release.set()
    idents = {future.result(WAIT_S) for future in busy}
    assert len(idents) == 2
    assert {threads.call(threading.get_ident) for _ in range(10)} <= idents


def test_submit_queues_calls_beyond_the_limit() -> None:
    threads, release = DaemonThreads("device", limit=1), threading.Event()
    first, second = threads.submit(lambda: release.wait(WAIT_S)), threads.submit(threading.get_ident)
    assert not second.done()
    release.set()
    assert first.result(WAIT_S)
    assert second.result(WAIT_S) == threads.call(threading.get_ident)


def test_submit_skips_call_whose_future_is_canceled() -> None:
    threads, release, called = DaemonThreads("device", limit=1), threading.Event(), threading.Event()
    first, second = threads.submit(lambda: release.wait(WAIT_S)), threads.submit(called.set)
    assert second.cancel()
    release.set()
    assert first.result(WAIT_S)
    assert threads.call(lambda: "still there") == "still there"
    assert not called.is_set()


def test_stop_ends_threads_which_are_daemons() -> None:
    threads = DaemonThreads("device", limit=1)
    inside = threads.call(threading.current_thread)
    assert (inside.name, inside.daemon) == ("device", True)
    threads.stop()
    inside.join(WAIT_S)
    assert not inside.is_alive()


def test_thread_that_cannot_start_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = DaemonThreads("job")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(int)
    assert threads.call(lambda: 1) == 1
