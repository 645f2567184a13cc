import gc
import json
import mmap
from dataclasses import asdict

import pytest
import torch

from worker.devices import memory
from worker.devices.gpus import GIB, Gpu
from worker.devices.memory import MemoryReport, MemorySample, MemorySnapshot, measure, snapshot


def test_on_a_cpu_the_resident_set_is_measured_and_marked_as_such() -> None:
    gc.collect()  # what other tests have left must not be freed in between
    size = 64 << 20
    # Not from malloc: it may hand out again what another test has freed, which is resident already.
    with mmap.mmap(-1, size) as fresh:
        with measure("cpu") as meter:
            fresh.write(b"x" * size)
        report = meter.report
    assert report.source == "rss"
    assert report.after.allocated - report.before.allocated > size // 2
    assert report.after.allocated == report.after.reserved
    assert report.peak_allocated == report.peak_reserved == report.after.allocated


def test_the_report_is_there_only_after_the_block() -> None:
    with measure("cpu") as meter, pytest.raises(RuntimeError, match="not ended"):
        _ = meter.report


def test_an_error_in_the_block_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), measure("cpu"):
        _ = 1 // 0


def test_on_a_gpu_the_allocator_is_asked_before_and_after_and_its_peaks_are_reset(
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


def test_a_snapshot_becomes_json() -> None:
    snapshot_ = json.loads(json.dumps(asdict(snapshot("cpu"))))
    assert snapshot_["source"] == "rss"
    assert 0 < snapshot_["allocated"] <= snapshot_["total"]


def test_a_process_whose_engine_runs_elsewhere_creates_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu("0", "GPU-a", 3 * GIB, 80 * GIB), Gpu("1", "GPU-b", 4 * GIB, 80 * GIB)]
    monkeypatch.setattr(memory, "list_gpus", lambda: gpus)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    monkeypatch.delattr("torch.cuda.get_device_properties")  # which would create one
    shown = snapshot("cuda")
    assert shown == MemorySnapshot("cuda", 153 * GIB, 153 * GIB, 160 * GIB)
