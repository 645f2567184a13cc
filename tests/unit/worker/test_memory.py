"""Measurements of memory use."""

import gc
import json
import mmap
from dataclasses import asdict

import pytest
import torch

from worker.devices import memory
from worker.devices.gpus import GIB, Gpu
from worker.devices.memory import MemoryReport, MemorySample, MemorySnapshot, measure, read_gpus, snapshot
from worker.jobs.readings import GpuMemory


def test_measure_reports_resident_set_on_cpu() -> None:
    gc.collect()  # so that no garbage of other tests is freed while the block runs
    size = 64 << 20
    # malloc might return memory that another test has freed, and which is resident already.
    with mmap.mmap(-1, size) as fresh:
        with measure("cpu") as meter:
            fresh.write(b"x" * size)
        report = meter.report
    assert report.source == "rss"
    assert report.after.allocated - report.before.allocated > size // 2
    assert report.after.allocated == report.after.reserved
    assert report.peak_allocated == report.peak_reserved == report.after.allocated


def test_meter_has_no_report_inside_block() -> None:
    with measure("cpu") as meter, pytest.raises(RuntimeError, match="not ended"):
        _ = meter.report


def test_measure_passes_errors_on() -> None:
    with pytest.raises(ZeroDivisionError), measure("cpu"):
        _ = 1 // 0


def test_measure_resets_peaks_and_reads_allocator_on_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stats = {"allocated_bytes.all.current": 10, "reserved_bytes.all.current": 20}

    def work() -> None:
        stats.update({"allocated_bytes.all.current": 11, "reserved_bytes.all.current": 22})
        stats.update({"allocated_bytes.all.peak": 15, "reserved_bytes.all.peak": 25})

    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: dict(stats))
    resets: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    with measure("cuda") as meter:
        work()
    assert meter.report == MemoryReport("cuda", MemorySample(10, 20), MemorySample(11, 22), 15, 25)
    assert resets == ["cuda"]


def test_read_gpus_keeps_peak_that_measure_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{kind}_bytes.all" for kind in ("allocated", "reserved")]
    stats = dict.fromkeys([f"{name}.{when}" for name in names for when in ("current", "peak")], 10)
    monkeypatch.setattr(memory, "_highest", {})
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.memory_stats", lambda device: dict(stats))
    reset = dict.fromkeys([f"{name}.peak" for name in names], 10)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: stats.update(reset))
    assert read_gpus("cuda", "GPU-a") == (GpuMemory("GPU-a", 10, 10, 10),)
    stats.update({"allocated_bytes.all.peak": 90})  # before a batch, and reset by `measure`
    with measure("cuda"):
        stats.update({"allocated_bytes.all.current": 20, "reserved_bytes.all.current": 30})
    assert read_gpus("cuda", "GPU-a") == (GpuMemory("GPU-a", 20, 30, 90),)


def test_read_gpus_tells_each_gpu_of_an_engine_with_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"GPU-a": 3, "GPU-b": 4}
    monkeypatch.setattr(memory, "_highest", {})
    monkeypatch.setattr(memory, "list_gpus", lambda: [Gpu("0", uuid, free[uuid], 80) for uuid in free])
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    assert read_gpus("cuda", "GPU-a,GPU-b") == (
        GpuMemory("GPU-a", 77, 77, 77),
        GpuMemory("GPU-b", 76, 76, 76),
    )
    free["GPU-a"] = 50
    assert read_gpus("cuda", "GPU-a,GPU-b")[0] == GpuMemory("GPU-a", 30, 30, 77)


def test_read_gpus_tells_nothing_on_cpu() -> None:
    assert read_gpus("cpu", "cpu") == ()


def test_snapshot_becomes_json() -> None:
    snapshot_ = json.loads(json.dumps(asdict(snapshot("cpu"))))
    assert snapshot_["source"] == "rss"
    assert 0 < snapshot_["allocated"] <= snapshot_["total"]


def test_snapshot_creates_no_cuda_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of such a worker runs in processes of its own, so NVML's figures for all processes count."""
    gpus = [Gpu("0", "GPU-a", 3 * GIB, 80 * GIB), Gpu("1", "GPU-b", 4 * GIB, 80 * GIB)]
    monkeypatch.setattr(memory, "list_gpus", lambda: gpus)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    monkeypatch.delattr("torch.cuda.get_device_properties")  # would create a context
    shown = snapshot("cuda")
    assert shown == MemorySnapshot("cuda", 153 * GIB, 153 * GIB, 160 * GIB)
