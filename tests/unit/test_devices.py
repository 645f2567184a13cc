import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.devices import Gpu, lease
from worker.jobs.errors import NoDevice

GPUS = [Gpu(i, f"GPU-{i}{i}{i}") for i in range(3)]

HOLD = """
import sys
from pathlib import Path
from worker.devices import Gpu, lease
held = lease(sys.argv[1], Path(sys.argv[2]), lambda: [Gpu(i, f"GPU-{i}{i}{i}") for i in range(3)])
print(held.label, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as it was")  # and is put back afterwards


def hold(devices: str, locks: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, devices, str(locks)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def label(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_without_a_gpu_auto_is_the_cpu(tmp_path: Path) -> None:
    held = lease("auto", tmp_path, list)
    assert (held.label, held.torch_device) == ("cpu", "cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_cpu_is_the_cpu_whatever_there_is(tmp_path: Path) -> None:
    assert lease("cpu", tmp_path, lambda: GPUS).torch_device == "cpu"


def test_spare_leaves_the_first_gpu_alone_and_falls_back_to_the_cpu(tmp_path: Path) -> None:
    assert lease("spare", tmp_path, lambda: GPUS[:1]).label == "cpu"
    held = lease("spare", tmp_path, lambda: GPUS[:2])
    assert held.label == "GPU-111"
    assert lease("spare", tmp_path, lambda: GPUS[:2]).label == "cpu"
    held.release()


def test_two_gpus_are_pinned_by_uuid(tmp_path: Path) -> None:
    held = lease("0,GPU-222", tmp_path, lambda: GPUS)
    assert held.torch_device == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-000,GPU-222"
    held.release()


def test_processes_that_start_together_take_different_gpus_and_a_fourth_is_told_who_holds_them(
    tmp_path: Path,
) -> None:
    holders = [hold("auto", tmp_path) for _ in GPUS]
    try:
        assert sorted(label(holder) for holder in holders) == [gpu.uuid for gpu in GPUS]
        with pytest.raises(NoDevice, match=f"0 by pid .*{os.uname().nodename}"):
            lease("auto", tmp_path, lambda: GPUS)
        with pytest.raises(NoDevice, match="GPU 1 is held by pid"):
            lease("1", tmp_path, lambda: GPUS)
        holders[1].kill()  # SIGKILL: the kernel drops the lock
        holders[1].wait()
        held = lease("auto", tmp_path, lambda: GPUS)
        assert held.label.startswith("GPU-")
        held.release()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoDevice, match="no GPU '7'"):
        lease("7", tmp_path, lambda: GPUS)
    with pytest.raises(NoDevice, match="no GPU '0'; there are none"):
        lease("0", tmp_path, list)
