"""Measurements of memory use."""

import gc
import json
import mmap
from dataclasses import asdict

import pytest
import torch

from worker.devices import memory
from worker.devices.gpus import GIB, Gpu
from worker.devices.memory import MemoryReport, MemorySample, MemorySnapshot, measure, snapshot


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
