import threading

import pytest

from worker.video.inference.device_thread import DeviceThread

WAIT_S = 20.0


def test_device_thread_returns_or_raises_in_one_thread() -> None:
    thread = DeviceThread("device")
    inside = {thread.call(threading.get_ident) for _ in range(3)}
    assert len(inside) == 1
    assert threading.get_ident() not in inside
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: "still there") == "still there"


def test_device_thread_stops_and_is_daemon() -> None:
    thread = DeviceThread("device")
    inside = thread.call(threading.current_thread)
    assert inside.daemon
    thread.stop()
    inside.join(WAIT_S)
    assert not inside.is_alive()
