import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from worker.devices.gpus import GIB, list_gpus


class NVMLError(Exception):
    """As pynvml's."""


class NotSupported(NVMLError):
    """Likewise."""


class Nvml:
    """An NVML of four GPUs; `lost` has fallen off the bus, `sliced` has MIG on, with slices 0 and 2.

    `shares`: they have no memory of their own. `fails`: a call that does, for no reason known here.
    """

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(
        self,
        lost: int | None = None,
        sliced: int | None = None,
        driver: bool = True,
        shares: bool = False,
        fails: str = "",
    ) -> None:
        self.lost, self.sliced, self.driver, self.shares, self.fails = lost, sliced, driver, shares, fails
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        assert self.open == 1
        calls: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetCount": lambda: 4,
            "nvmlDeviceGetHandleByIndex": self._handle,
            "nvmlDeviceGetUUID": lambda handle: handle,
            "nvmlDeviceGetMemoryInfo": self._memory,
            "nvmlDeviceGetMigMode": self._mig_mode,
            "nvmlDeviceGetMaxMigDeviceCount": lambda handle: 3,
            "nvmlDeviceGetMigDeviceHandleByIndex": self._slice,
            "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
                SimpleNamespace(pid=7, usedGpuMemory=2 * GIB),
                SimpleNamespace(pid=8, usedGpuMemory=None),
            ],
            "nvmlSystemGetProcessName": self._process_name,
        }
        if name == self.fails:
            raise NVMLError("Unknown Error")
        return calls[name]

    def _memory(self, handle: str) -> SimpleNamespace:
        if self.shares:
            raise NotSupported("Not Supported")
        return SimpleNamespace(free=70 * GIB, total=80 * GIB)

    def _handle(self, index: int) -> str:
        if index == self.lost:
            raise NVMLError("GPU is lost")
        return f"GPU-{index}f3a-{'b' if index < 2 else 'c'}"

    def _mig_mode(self, handle: str) -> list[int]:
        if handle.startswith("GPU-3"):
            raise NVMLError("Not Supported")
        return [int(handle.startswith(f"GPU-{self.sliced}")), 0]

    def _slice(self, handle: str, number: int) -> str:
        if number == 1:
            raise NVMLError("Not Found")
        return f"MIG-{handle[4]}-{number}"

    def _process_name(self, pid: int) -> str:
        if pid == 8:
            raise NVMLError("Not Found")
        return "python"


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Nvml]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def plug(**state: Any) -> Nvml:
        nvml = Nvml(**state)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return plug


def indexes() -> list[str]:
    return [gpu.index for gpu in list_gpus()]


def test_what_nvml_tells(plug: Callable[..., Nvml]) -> None:
    nvml = plug()
    first = list_gpus()[0]
    assert str(first) == "GPU 0 has 70.0 of 80.0 GiB free, used by pid 7 python (2.0 GiB), pid 8"
    assert first.uuid == "GPU-0f3a-b"
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("2,0", ["2", "0"]),
        (" 3 , 1", ["3", "1"]),
        ("GPU-1f3a-b,GPU-0f3a-b", ["1", "0"]),
        ("GPU-3f,2", ["3", "2"]),
        ("GPU-3,2", ["3", "2"]),
        ("", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("1,1", []),
    ],
)
def test_the_users_choice_and_order(
    plug: Callable[..., Nvml], monkeypatch: pytest.MonkeyPatch, visible: str, seen: list[str]
) -> None:
    plug()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert indexes() == seen


@pytest.mark.parametrize("visible", ["1,9,0", "1,GPU-,0", "1,GPU-9,0", "1,as it was,0"])
def test_a_name_that_fits_no_gpu_or_several_ends_the_list_and_is_told(
    plug: Callable[..., Nvml],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    visible: str,
) -> None:
    plug()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert indexes() == ["1"]
    assert f"{visible.split(',')[1]!r} fits no GPU, and ends the list" in caplog.text


def test_a_gpu_with_mig_is_its_slices(plug: Callable[..., Nvml], monkeypatch: pytest.MonkeyPatch) -> None:
    plug(sliced=1)
    assert [(gpu.index, gpu.uuid) for gpu in list_gpus()][1:3] == [("1:0", "MIG-1-0"), ("1:2", "MIG-1-2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1-2")
    assert indexes() == ["1:2"]


def test_a_gpu_that_is_lost_leaves_the_others(
    plug: Callable[..., Nvml], caplog: pytest.LogCaptureFixture
) -> None:
    plug(lost=1)
    assert indexes() == ["0", "2", "3"]
    assert "GPU 1 is left out, NVML says: GPU is lost" in caplog.text


def test_a_gpu_without_memory_of_its_own_has_the_machines(plug: Callable[..., Nvml]) -> None:
    plug(shares=True)
    first, *_ = list_gpus()
    assert first.total == psutil.virtual_memory().total
    assert 0 < first.free < first.total


def test_an_nvml_that_fails_is_no_gpu(plug: Callable[..., Nvml], caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks again and again, as a worker's heartbeat does, must live with it."""
    caplog.set_level("INFO")
    nvml = plug(fails="nvmlDeviceGetCount")
    assert indexes() == []
    assert "no GPU can be seen, NVML says: Unknown Error" in caplog.text
    assert nvml.open == 0


def test_no_driver_is_no_gpu_and_the_log_has_the_reason(
    plug: Callable[..., Nvml], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    plug(driver=False)
    assert indexes() == []
    assert "no GPU can be seen, NVML says: Driver Not Loaded" in caplog.text
    monkeypatch.setitem(sys.modules, "pynvml", None)  # what makes `import pynvml` fail
    assert indexes() == []
    assert "pynvml" in caplog.text
