"""Run a fault campaign and print its table: `python -m tests.faults [NAME] [--seed N]`."""

import random
import tempfile
from pathlib import Path

import click

from tests.faults import plans
from tests.faults.campaign import run_campaign

PLANS = {
    "long": plans.long,
    "short": plans.short,
    "real": plans.real,
    "failover": plans.failover,
    "shared": plans.shared,
    "shared-short": plans.shared_short,
}


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(list(PLANS)), default="long")
@click.option("--seed", type=int, help="Seed of the fault schedule. By default it is drawn, and printed.")
def main(name: str, seed: int | None) -> None:
    seed = random.randrange(2**32) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="stoker-faults-"))
    click.echo(f"{name} campaign, --seed {seed}; logs in {home}")
    report = run_campaign(PLANS[name](home), seed, home)
    click.echo(report.table())
    (home / "findings.txt").write_text(report.findings())
    if not report.passed:
        raise SystemExit(f"see {home}/findings.txt")


if __name__ == "__main__":
    main()
