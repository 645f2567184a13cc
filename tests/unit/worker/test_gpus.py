"""The list of GPUs, with a stub of NVML."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from worker.devices.gpus import GIB, list_gpus


class NVMLError(Exception):
    """Stands for pynvml's error of this name."""


class NotSupported(NVMLError):
    """Stands for pynvml's `NVMLError_NotSupported`."""


class StubNvml:
    """A stub of the module pynvml, with four GPUs.

    The GPU number `lost` has fallen off the bus. MIG is on for the GPU number `sliced`, with slices 0 and 2.
    With `shared_memory`, the GPUs use the machine's memory. The function `failing_call` always fails.
    """

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(
        self,
        lost: int | None = None,
        sliced: int | None = None,
        driver: bool = True,
        shared_memory: bool = False,
        failing_call: str = "",
    ) -> None:
        self.lost, self.sliced, self.driver = lost, sliced, driver
        self.shared_memory, self.failing_call = shared_memory, failing_call
        #: The number of nvmlInit calls without an nvmlShutdown.
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
        if name == self.failing_call:
            raise NVMLError("Unknown Error")
        return calls[name]

    def _memory(self, handle: str) -> SimpleNamespace:
        if self.shared_memory:
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


InstallNvml = Callable[..., StubNvml]


@pytest.fixture
def install_nvml(monkeypatch: pytest.MonkeyPatch) -> InstallNvml:
    """A function that puts a stub in the place of pynvml, and returns it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(**state: Any) -> StubNvml:
        nvml = StubNvml(**state)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return install


def listed_indexes() -> list[str]:
    return [gpu.index for gpu in list_gpus()]


def test_list_gpus_describes_gpus(install_nvml: InstallNvml) -> None:
    nvml = install_nvml()
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
def test_list_gpus_follows_cuda_visible_devices(
    install_nvml: InstallNvml, monkeypatch: pytest.MonkeyPatch, visible: str, seen: list[str]
) -> None:
    install_nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert listed_indexes() == seen


@pytest.mark.parametrize("visible", ["1,9,0", "1,GPU-,0", "1,GPU-9,0", "1,as it was,0"])
def test_list_gpus_ends_at_unmatched_name_and_logs_it(
    install_nvml: InstallNvml,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    visible: str,
) -> None:
    install_nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert listed_indexes() == ["1"]
    assert f"{visible.split(',')[1]!r} matches no GPU and ends the list" in caplog.text


def test_list_gpus_returns_slices_of_gpu_with_mig(
    install_nvml: InstallNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_nvml(sliced=1)
    assert [(gpu.index, gpu.uuid) for gpu in list_gpus()][1:3] == [("1:0", "MIG-1-0"), ("1:2", "MIG-1-2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1-2")
    assert listed_indexes() == ["1:2"]


def test_list_gpus_ignores_lost_gpu(install_nvml: InstallNvml, caplog: pytest.LogCaptureFixture) -> None:
    install_nvml(lost=1)
    assert listed_indexes() == ["0", "2", "3"]
    assert "GPU 1 is ignored: NVML: GPU is lost" in caplog.text


def test_list_gpus_reads_machine_memory_if_gpu_has_none(install_nvml: InstallNvml) -> None:
    install_nvml(shared_memory=True)
    first, *_ = list_gpus()
    assert first.total == psutil.virtual_memory().total
    assert 0 < first.free < first.total


def test_list_gpus_returns_none_if_nvml_fails(
    install_nvml: InstallNvml, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker's heartbeat lists the GPUs again and again, and must survive this."""
    caplog.set_level("INFO")
    nvml = install_nvml(failing_call="nvmlDeviceGetCount")
    assert listed_indexes() == []
    assert "no GPU is visible: NVML: Unknown Error" in caplog.text
    assert nvml.open == 0


def test_list_gpus_returns_none_and_logs_reason_without_driver(
    install_nvml: InstallNvml, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    install_nvml(driver=False)
    assert listed_indexes() == []
    assert "no GPU is visible: NVML: Driver Not Loaded" in caplog.text
    monkeypatch.setitem(sys.modules, "pynvml", None)  # makes `import pynvml` fail
    assert listed_indexes() == []
    assert "pynvml" in caplog.text
