import json
from dataclasses import asdict

import numpy as np
import pytest

from worker.memory import measure, snapshot


def test_on_a_cpu_the_resident_set_is_measured_and_marked_as_such() -> None:
    with measure("cpu") as meter:
        kept = np.ones(64 << 20, np.uint8)
    report = meter.report
    assert report.source == "rss"
    assert report.after.allocated - report.before.allocated > kept.nbytes // 2
    assert report.after.allocated == report.after.reserved
    assert report.peak_allocated == report.peak_reserved == report.after.allocated


def test_the_report_is_there_only_after_the_block() -> None:
    with measure("cpu") as meter, pytest.raises(RuntimeError, match="not ended"):
        _ = meter.report


def test_an_error_in_the_block_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), measure("cpu"):
        _ = 1 // 0


def test_a_snapshot_becomes_json() -> None:
    snapshot_ = json.loads(json.dumps(asdict(snapshot("cpu"))))
    assert snapshot_["source"] == "rss"
    assert 0 < snapshot_["allocated"] <= snapshot_["total"]
