"""The short campaign. `make faults` runs the long ones."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import plans
from tests.faults.campaign import Plan, run_campaign


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plan", [plans.short, plans.shared_short])
def test_campaign_finds_no_flaw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: Callable[[Path], Plan]
) -> None:
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\n{plan.__name__}: seed {seed}")  # noqa: T201
    report = run_campaign(plan(tmp_path), seed, tmp_path)
    assert report.passed, report.findings()
