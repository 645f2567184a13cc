"""The fault campaign: `python -m tests.faults [long|short|real] [--seed N]` prints its table."""

import random
import tempfile
from pathlib import Path

import click

from tests.faults import plans
from tests.faults.campaign import run

PLANS = {"long": plans.long, "short": plans.short, "real": plans.real}


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(list(PLANS)), default="long")
@click.option("--seed", type=int, help="Of the script of faults; a random one is drawn and shown.")
def main(name: str, seed: int | None) -> None:
    seed = random.randrange(2**32) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="stoker-faults-"))
    click.echo(f"{name} campaign, --seed {seed}; logs in {home}")
    report = run(PLANS[name](home), seed, home)
    click.echo(report.table())
    (home / "findings.txt").write_text(report.findings())
    if not report.good:
        raise SystemExit(f"see {home}/findings.txt")


if __name__ == "__main__":
    main()
