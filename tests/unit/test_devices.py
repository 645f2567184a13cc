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

from worker.devices import lease as devices
from worker.devices.gpus import GIB
from worker.devices.lease import Gpu, lease
from worker.jobs.errors import ConfigurationError, NoDevice
from worker.jobs.ledger.ledger import Ledger
from worker.runners import make_runner
from worker.runs.outbox import Outbox

Said = Callable[[], list[str]]

#: A worker that chooses again in each round: reads when to start, says what it has, lets go when told.
WORKER = """
import sys, time
from pathlib import Path
from worker.devices.lease import Gpu, lease
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

ROUNDS, KILLED_IN = 100, (20, 50, 80)


def gpu(number: int, free_gib: float = 80.0, *users: str) -> Gpu:
    return Gpu(str(number), f"GPU-{number}{number}{number}", int(free_gib * GIB), 80 * GIB, users)


GPUS = [gpu(0), gpu(1), gpu(2)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as it was")  # and is put back afterwards
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "as it was")
    monkeypatch.setattr(devices, "POLL_S", 0.001)


class Worker:
    """A process that leases a GPU in each round."""

    def __init__(self, wanted: str, locks: Path, gpus: int) -> None:
        command = [sys.executable, "-c", WORKER, wanted, str(locks), str(gpus)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: object = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def workers(count: int, locks: Path, gpus: int) -> Iterator[list[Worker]]:
    herd = [Worker("auto", locks, gpus) for _ in range(count)]
    try:
        yield herd
    finally:
        for worker in herd:
            worker.kill()


def taken(herd: Sequence[Worker]) -> list[str]:
    """What they have, having started at the same instant."""
    start = time.monotonic() + 0.002
    for worker in herd:
        worker.tell(start)
    return [worker.said() for worker in herd]


def test_without_a_gpu_auto_is_the_cpu_and_says_so(tmp_path: Path, said: Said) -> None:
    held = lease("auto", tmp_path, list)
    assert (held.label, held.torch_device, held.gpus) == ("cpu", "cpu", 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert said() == ["this worker runs on the CPU: devices=auto, GPUs here: 0"]


def test_cpu_is_the_cpu_whatever_there_is(tmp_path: Path) -> None:
    assert lease("cpu", tmp_path, lambda: GPUS).torch_device == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_spare_leaves_the_first_gpu_alone_and_falls_back_to_the_cpu(tmp_path: Path) -> None:
    assert lease("spare", tmp_path, lambda: GPUS[:1]).label == "cpu"
    held = lease("spare", tmp_path, lambda: GPUS[:2])
    assert held.label == "GPU-111"
    assert lease("spare", tmp_path, lambda: GPUS[:2]).label == "cpu"
    held.release()


def test_two_gpus_are_pinned_by_uuid_in_the_order_they_are_named(tmp_path: Path) -> None:
    held = lease("2,GPU-000", tmp_path, lambda: GPUS)
    assert (held.torch_device, held.gpus) == ("cuda", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == held.label == "GPU-222,GPU-000"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    held.release()


def test_four_that_start_at_the_same_instant_take_four_gpus_and_a_kill_frees_at_once(tmp_path: Path) -> None:
    every = [f"GPU-{i}{i}{i}" for i in range(4)]
    with workers(4, tmp_path, 4) as herd:
        for number in range(ROUNDS):
            labels = taken(herd)
            assert sorted(labels) == every
            with pytest.raises(NoDevice) as none:
                lease("auto", tmp_path, lambda: [gpu(i) for i in range(4)])
            for worker, label in zip(herd, labels, strict=True):
                holder = f"GPU {label[-1]} is held by pid {worker.process.pid} on {os.uname().nodename}"
                assert holder in str(none.value)
            if number in KILLED_IN:
                herd[0].kill()
                lease(labels[0], tmp_path, lambda: [gpu(i) for i in range(4)]).release()
                herd[0] = Worker("auto", tmp_path, 4)
            for worker in herd[number in KILLED_IN :]:
                worker.tell()
                assert worker.said() == "released"


def test_a_gpu_that_another_program_fills_is_skipped_and_the_log_says_who(tmp_path: Path, said: Said) -> None:
    full = gpu(0, 3, "pid 77 python (76.0 GiB)")
    held = lease("auto", tmp_path, lambda: [full, gpu(1, 41)])
    assert held.label == "GPU-111"
    [skipped] = said()
    assert skipped.startswith(
        "skipped: GPU 0 has 3.0 of 80.0 GiB free, used by pid 77 python (76.0 GiB); 40.0 GiB"
    )
    held.release()


def test_memory_is_looked_at_under_the_lock(tmp_path: Path) -> None:
    """Whoever had the lock a moment ago was perhaps still loading when the GPUs were listed."""
    before = iter([[gpu(0), gpu(1)]] * 2)
    held = lease("auto", tmp_path, lambda: next(before, [gpu(0, 3), gpu(1)]))
    assert held.label == "GPU-111"
    held.release()


@pytest.mark.parametrize("wanted", ["auto", "0"])
def test_a_gpu_that_another_worker_holds_only_to_look_at_it_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    other = lease("0", tmp_path, lambda: GPUS[:1])
    monkeypatch.setattr(devices, "POLL_S", 10.0)
    monkeypatch.setattr(time, "sleep", lambda _: other.release())
    held = lease(wanted, tmp_path, lambda: GPUS[:1])
    assert held.label == "GPU-000"
    held.release()


def test_the_settings_say_how_much_must_be_free(tmp_path: Path) -> None:
    gpus = [gpu(0, 41), gpu(1, 70)]
    for wanted, label in ((60 * GIB, "GPU-111"), (0, "GPU-000"), (None, "GPU-000")):
        held = lease("auto", tmp_path, lambda: gpus, free_bytes=wanted)
        assert held.label == label
        held.release()


@pytest.mark.parametrize("wanted", ["auto", "0", "spare"])
def test_memory_that_a_killed_worker_has_not_returned_yet_is_waited_for(tmp_path: Path, wanted: str) -> None:
    other = Gpu("9", "GPU-999")
    looks = iter([[other, gpu(0, 5)] if wanted == "spare" else [gpu(0, 5)]] * 7)
    held = lease(wanted, tmp_path, lambda: next(looks, [other, gpu(0)] if wanted == "spare" else [gpu(0)]))
    assert held.label == "GPU-000"
    assert next(looks, None) is None
    held.release()


def test_who_fills_a_gpu_or_holds_it_is_told_when_none_is_left(tmp_path: Path, said: Said) -> None:
    holder = lease("1", tmp_path, lambda: GPUS)
    full = gpu(0, 3, "pid 77 python (76.0 GiB)")
    with pytest.raises(NoDevice) as error:
        lease("auto", tmp_path, lambda: [full, gpu(1)], wait_s=0.05)
    assert "no GPU is free; GPU 0 has 3.0 of 80.0 GiB free, used by pid 77 python (76.0 GiB)" in str(
        error.value
    )
    assert f"; GPU 1 is held by pid {os.getpid()} on " in str(error.value)
    assert len(said()) == 1  # however often it looked
    holder.release()
    lease("0", tmp_path, lambda: GPUS).release()  # and it kept no lock


def test_who_has_patience_says_what_it_waits_for_and_takes_the_first_gpu_that_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holders = [lease(name, tmp_path, lambda: GPUS[:2]) for name in ("0", "1")]
    naps: list[float] = []
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 8:
            holders[1].release()

    monkeypatch.setattr(time, "sleep", nap)
    held = lease("auto", tmp_path, lambda: GPUS[:2], patience_s=float("inf"))
    assert held.label == "GPU-111"
    [said] = caplog.messages  # however often it looked
    assert said.startswith("waiting up to inf s (STOKER_DEVICE_WAIT_S): no GPU is free; GPU 0 is held by pid")
    assert naps[-1] == devices.SLOW_POLL_S
    held.release()
    holders[0].release()


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = lease("0", tmp_path, lambda: GPUS[:1])
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(NoDevice, match="GPU 0 is held by pid"):
        lease("auto", tmp_path, lambda: GPUS[:1], patience_s=40)
    assert next(clock) > 40
    holder.release()


def test_a_full_gpu_that_was_named_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = lease("0", tmp_path, lambda: [gpu(0, 3)], wait_s=0)
    assert held.label == "GPU-000"
    assert "taken, for it was asked for: GPU 0 has 3.0 of 80.0 GiB free" in caplog.text
    held.release()


def test_all_the_named_gpus_or_none(tmp_path: Path) -> None:
    holder = lease("1", tmp_path, lambda: GPUS)
    with pytest.raises(NoDevice, match=f"GPU 1 is held by pid {os.getpid()} on"):
        lease("0,1", tmp_path, lambda: GPUS)
    lease("0", tmp_path, lambda: GPUS).release()
    holder.release()


def test_names_that_cannot_be_had(tmp_path: Path) -> None:
    slices = [Gpu("0:0", "MIG-a"), Gpu("0:1", "MIG-b")]
    for wanted, gpus, why in (
        ("7", GPUS[:1], r"no GPU '7'; there are 0 \(GPU-000\)"),
        ("0", [], "no GPU '0'; there are none"),
        ("GPU-", GPUS, "no GPU 'GPU-'"),
        ("0,GPU-00", GPUS, "GPU 0 is named twice"),
        ("0:0,0:1", slices, "one MIG slice, not several"),
    ):
        with pytest.raises(NoDevice, match=why):
            lease(wanted, tmp_path, lambda gpus=gpus: gpus)  # type: ignore[misc]  # mypy knows no defaults
    lease("MIG-b", tmp_path, lambda: slices).release()


def test_workers_of_other_users_can_use_the_same_locks(tmp_path: Path) -> None:
    locks = tmp_path / "home" / "locks"
    lease("0", locks, lambda: GPUS).release()
    assert (locks / "GPU-000.lock").stat().st_mode & 0o777 == 0o666
    assert locks.stat().st_mode & 0o7777 == 0o1777


def test_locks_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("no folder")
    with pytest.raises(NoDevice, match=r"GPU 0 cannot be locked: .*Not a directory"):
        lease("0", tmp_path / "locks", lambda: GPUS)


def test_a_process_that_already_uses_cuda_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(ConfigurationError, match="before the worker could choose its GPU"):
        lease("auto", tmp_path, lambda: GPUS)


def test_the_log_has_no_more_than_the_choice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, said: Said
) -> None:
    caplog.set_level(logging.INFO)
    lease("auto", tmp_path, lambda: GPUS).release()
    assert said() == []


@pytest.mark.parametrize("kind", ["chat", "video"])
def test_several_gpus_are_refused_by_what_runs_on_one(ledger: Ledger, kind: str) -> None:
    home = ledger.settings.home_dir
    settings = ledger.settings.replace(engine="transformers", chat_model=str(home), video_model=str(home))
    device = lease("0,1", home / "locks", lambda: GPUS)
    with pytest.raises(ConfigurationError, match="one GPU, not on 2"):
        make_runner(kind, settings, device, ledger, Outbox(ledger))
    device.release()
