"""Device leases: which GPU a worker gets, how long it waits, and what it logs."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.devices.gpus import GIB, Gpu
from worker.devices.lease import DeviceLease, lease
from worker.devices.selection import Polling
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import ConfigurationError, NoDevice
from worker.jobs.ledger.ledger import Ledger
from worker.runners import make_runner
from worker.runs.outbox import Outbox

LogMessages = Callable[[], list[str]]

#: A worker that leases a GPU once a round. It reads the time at which to start, and prints the label of its
#: lease. It releases the lease when it reads the next line.
WORKER = """
import sys, time
from pathlib import Path
from worker.devices.gpus import Gpu
from worker.devices.lease import lease
gpus = [Gpu(str(i), f"GPU-{i}{i}{i}") for i in range(int(sys.argv[3]))]
for start in iter(sys.stdin.readline, ""):
    while time.monotonic() < float(start):
        pass
    held = lease(sys.argv[1], Path(sys.argv[2]), lambda: gpus)
    print(held.label, flush=True)
    sys.stdin.readline()
    held.release()
    print("released", flush=True)
"""

ROUNDS, ROUNDS_WITH_KILL = 100, (20, 50, 80)


def gpu(number: int, free_gib: float = 80.0, *users: str) -> Gpu:
    return Gpu(str(number), f"GPU-{number}{number}{number}", int(free_gib * GIB), 80 * GIB, users)


GPUS = [gpu(0), gpu(1), gpu(2)]
FULL_GPU = gpu(0, 3, "pid 77 python (76.0 GiB)")


class FakeTime:
    """A clock that only `sleep` advances. `on_sleep` is called with the number of each sleep, from 1."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[int], None] = lambda number: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)
        self.on_sleep(len(self.sleeps))

    @property
    def polling(self) -> Polling:
        return Polling(clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variables that a lease sets."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as it was")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "as it was")


class WorkerProcess:
    """A process that leases a GPU in each round."""

    def __init__(self, devices: str, locks: Path, gpus: int) -> None:
        command = [sys.executable, "-c", WORKER, devices, str(locks), str(gpus)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write_line(self, line: object = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def worker_processes(count: int, locks: Path, gpus: int) -> Iterator[list[WorkerProcess]]:
    workers = [WorkerProcess("auto", locks, gpus) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def lease_together(workers: Sequence[WorkerProcess]) -> list[str]:
    """Let all workers start at the same instant, and return the labels of their leases."""
    start = time.monotonic() + 0.002
    for worker in workers:
        worker.write_line(start)
    return [worker.read_line() for worker in workers]


def test_auto_without_gpu_uses_cpu_and_logs_it(tmp_path: Path, log_messages: LogMessages) -> None:
    held = lease("auto", tmp_path, list)
    assert (held.label, held.torch_device, held.gpus) == ("cpu", "cpu", 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert log_messages() == ["this worker runs on the CPU: devices=auto, GPUs here: 0"]


def test_cpu_ignores_gpus(tmp_path: Path) -> None:
    assert lease("cpu", tmp_path, lambda: GPUS).torch_device == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_spare_skips_first_gpu_and_falls_back_to_cpu(tmp_path: Path, fake_time: FakeTime) -> None:
    def spare(gpus: Sequence[Gpu]) -> DeviceLease:
        return lease("spare", tmp_path, lambda: gpus, polling=fake_time.polling)

    assert spare(GPUS[:1]).label == "cpu"
    held = spare(GPUS[:2])
    assert held.label == "GPU-111"
    assert spare(GPUS[:2]).label == "cpu"
    held.release()


def test_named_gpus_are_pinned_by_uuid_in_order(tmp_path: Path) -> None:
    held = lease("2,GPU-000", tmp_path, lambda: GPUS)
    assert (held.torch_device, held.gpus) == ("cuda", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == held.label == "GPU-222,GPU-000"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    held.release()


def test_concurrent_workers_lease_distinct_gpus_and_kill_unlocks(tmp_path: Path) -> None:
    labels_of_all = [f"GPU-{i}{i}{i}" for i in range(4)]
    quick = Polling(interval_s=0.001)
    with worker_processes(4, tmp_path, 4) as workers:
        for number in range(ROUNDS):
            labels = lease_together(workers)
            assert sorted(labels) == labels_of_all
            with pytest.raises(NoDevice) as refusal:
                lease("auto", tmp_path, lambda: [gpu(i) for i in range(4)], polling=quick)
            for worker, label in zip(workers, labels, strict=True):
                holder = f"GPU {label[-1]} is held by pid {worker.process.pid} on {os.uname().nodename}"
                assert holder in str(refusal.value)
            killed = number in ROUNDS_WITH_KILL
            if killed:
                workers[0].kill()
                lease(labels[0], tmp_path, lambda: [gpu(i) for i in range(4)], polling=quick).release()
                workers[0] = WorkerProcess("auto", tmp_path, 4)
            for worker in workers[killed:]:
                worker.write_line()
                assert worker.read_line() == "released"


def test_auto_skips_full_gpu_and_logs_its_users(tmp_path: Path, log_messages: LogMessages) -> None:
    held = lease("auto", tmp_path, lambda: [FULL_GPU, gpu(1, 41)])
    assert held.label == "GPU-111"
    [skipped] = log_messages()
    assert skipped.startswith(
        "skipped: GPU 0 has 3.0 of 80.0 GiB free, used by pid 77 python (76.0 GiB); 40.0 GiB"
    )
    held.release()


def test_auto_reads_memory_under_lock(tmp_path: Path) -> None:
    """The last holder of the lock may have been loading its model when the GPUs were listed."""
    before = iter([[gpu(0), gpu(1)]] * 2)
    held = lease("auto", tmp_path, lambda: next(before, [gpu(0, 3), gpu(1)]))
    assert held.label == "GPU-111"
    held.release()


@pytest.mark.parametrize("devices", ["auto", "0"])
def test_lease_waits_for_lock_that_is_held_for_a_moment(
    tmp_path: Path, fake_time: FakeTime, devices: str
) -> None:
    other = lease("0", tmp_path, lambda: GPUS[:1])
    fake_time.on_sleep = lambda number: other.release()
    held = lease(devices, tmp_path, lambda: GPUS[:1], polling=fake_time.polling)
    assert held.label == "GPU-000"
    held.release()


def test_free_bytes_decides_which_gpu_is_free(tmp_path: Path) -> None:
    gpus = [gpu(0, 41), gpu(1, 70)]
    for free_bytes, label in ((60 * GIB, "GPU-111"), (0, "GPU-000"), (None, "GPU-000")):
        held = lease("auto", tmp_path, lambda: gpus, free_bytes=free_bytes)
        assert held.label == label
        held.release()


@pytest.mark.parametrize("devices", ["auto", "0", "spare"])
def test_lease_waits_for_memory_of_killed_worker(tmp_path: Path, fake_time: FakeTime, devices: str) -> None:
    first = [Gpu("9", "GPU-999")] if devices == "spare" else []
    readings = iter([[*first, gpu(0, 5)]] * 7)
    held = lease(devices, tmp_path, lambda: next(readings, [*first, gpu(0)]), polling=fake_time.polling)
    assert held.label == "GPU-000"
    assert next(readings, None) is None
    held.release()


def test_no_device_lists_users_and_holders(
    tmp_path: Path, fake_time: FakeTime, log_messages: LogMessages
) -> None:
    holder = lease("1", tmp_path, lambda: GPUS)
    with pytest.raises(NoDevice) as refusal:
        lease("auto", tmp_path, lambda: [FULL_GPU, gpu(1)], wait_s=25.0, polling=fake_time.polling)
    assert "no GPU is free; GPU 0 has 3.0 of 80.0 GiB free, used by pid 77 python (76.0 GiB)" in str(
        refusal.value
    )
    assert f"; GPU 1 is held by pid {os.getpid()} on " in str(refusal.value)
    assert sum(fake_time.sleeps) == 25.0
    assert len(log_messages()) == 1, "the GPU is logged once, not at each look"
    holder.release()
    lease("0", tmp_path, lambda: GPUS).release()  # the refused lease left no lock


def test_patience_logs_once_and_takes_first_released_gpu(
    tmp_path: Path, fake_time: FakeTime, log_messages: LogMessages
) -> None:
    holders = [lease(name, tmp_path, lambda: GPUS[:2]) for name in ("0", "1")]
    fake_time.on_sleep = lambda number: holders[1].release() if number == 8 else None
    polling = fake_time.polling
    held = lease("auto", tmp_path, lambda: GPUS[:2], patience_s=float("inf"), polling=polling)
    assert held.label == "GPU-111"
    [message] = log_messages()
    assert message.startswith(
        "waiting up to inf s (STOKER_DEVICE_WAIT_S): no GPU is free; GPU 0 is held by pid"
    )
    assert fake_time.sleeps[-1] == polling.slow_interval_s
    held.release()
    holders[0].release()


def test_patience_ends_with_no_device(tmp_path: Path, fake_time: FakeTime) -> None:
    holder = lease("0", tmp_path, lambda: GPUS[:1])
    with pytest.raises(NoDevice, match="GPU 0 is held by pid"):
        lease("auto", tmp_path, lambda: GPUS[:1], patience_s=40, polling=fake_time.polling)
    assert sum(fake_time.sleeps) >= 40
    holder.release()


def test_named_full_gpu_is_used_with_warning(tmp_path: Path, log_messages: LogMessages) -> None:
    held = lease("0", tmp_path, lambda: [gpu(0, 3)], wait_s=0)
    assert held.label == "GPU-000"
    [warning] = log_messages()
    assert warning.startswith("used anyway, because it was named: GPU 0 has 3.0 of 80.0 GiB free")
    held.release()


def test_named_gpus_are_locked_all_or_none(tmp_path: Path, fake_time: FakeTime) -> None:
    holder = lease("1", tmp_path, lambda: GPUS)
    with pytest.raises(NoDevice, match=f"GPU 1 is held by pid {os.getpid()} on"):
        lease("0,1", tmp_path, lambda: GPUS, polling=fake_time.polling)
    lease("0", tmp_path, lambda: GPUS).release()
    holder.release()


def test_lease_refuses_names_that_cannot_be_used(tmp_path: Path) -> None:
    slices = [Gpu("0:0", "MIG-a"), Gpu("0:1", "MIG-b")]
    for devices, gpus, reason in (
        ("7", GPUS[:1], r"no GPU '7'; there are 0 \(GPU-000\)"),
        ("0", [], "no GPU '0'; there are none"),
        ("GPU-", GPUS, "no GPU 'GPU-'"),
        ("0,GPU-00", GPUS, "GPU 0 is named twice"),
        ("0:0,0:1", slices, "one MIG slice, not several"),
    ):
        with pytest.raises(NoDevice, match=reason):
            lease(devices, tmp_path, lambda gpus=gpus: gpus)  # type: ignore[misc]  # mypy knows no defaults
    lease("MIG-b", tmp_path, lambda: slices).release()


def test_lock_files_are_usable_by_all_users(tmp_path: Path) -> None:
    locks = tmp_path / "home" / "locks"
    lease("0", locks, lambda: GPUS).release()
    assert (locks / "GPU-000.lock").stat().st_mode & 0o777 == 0o666
    assert locks.stat().st_mode & 0o7777 == 0o1777


def test_lease_reports_lock_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("no folder")
    with pytest.raises(NoDevice, match=r"GPU 0 cannot be locked: .*Not a directory"):
        lease("0", tmp_path / "locks", lambda: GPUS)


def test_lease_refuses_process_with_cuda_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(ConfigurationError, match="before the worker could choose its GPU"):
        lease("auto", tmp_path, lambda: GPUS)


def test_lease_without_trouble_logs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, log_messages: LogMessages
) -> None:
    caplog.set_level(logging.INFO)
    lease("auto", tmp_path, lambda: GPUS).release()
    assert log_messages() == []


@pytest.mark.parametrize("kind", ["chat", "video"])
def test_make_runner_refuses_several_gpus_for_single_gpu_runner(ledger: Ledger, kind: str) -> None:
    home = ledger.store.settings.home_dir
    settings = ledger.store.settings.replace(
        engine="transformers", chat_model=str(home), video_model=str(home)
    )
    device = lease("0,1", home / "locks", lambda: GPUS)
    with pytest.raises(ConfigurationError, match="one GPU, not on 2"):
        make_runner(kind, settings, device, ledger, Outbox(Dispatcher(ledger.store)))
    device.release()
