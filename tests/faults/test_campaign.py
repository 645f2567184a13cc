"""The short campaign. `make faults` runs the long ones."""

import random
from pathlib import Path

import pytest

from tests.faults import plans
from tests.faults.campaign import run_campaign


@pytest.mark.long
@pytest.mark.timeout(600)
def test_campaign_short_finds_no_flaw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\nshort campaign: python -m tests.faults short --seed {seed}")  # noqa: T201
    report = run_campaign(plans.short(tmp_path), seed, tmp_path)
    assert report.passed, report.findings()
