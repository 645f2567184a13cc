"""Simulate an installation: its queue waits, its first tokens, and the load of its Redis and its API.

    python -m bench.simulation [--gpus 1000] [--chats-per-day 1000000] [--slots 128] [--tokens 400] …
    python -m bench.simulation --sweep 1 2 5 10 20 50      the peak hour, with so many times the chats
    python -m bench.simulation --measure                   measures the costs anew, and stores them
    python -m bench.simulation --check                     a real run beside its simulation

The simulation takes the CPU time of each operation from `costs.json`, which `--measure` has written. Chats
are simulated one by one, and their tokens are not: for each second the appends of all workers are added up.
The same options give the same figures.
"""

import argparse
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date

from bench.simulation.arrivals import arrivals
from bench.simulation.check import check
from bench.simulation.costs import COSTS_FILE, Costs
from bench.simulation.figures import Figures
from bench.simulation.installation import Installation
from bench.simulation.measure import measure_ledger
from bench.simulation.measure_processes import measure_processes
from bench.simulation.plan import SPEEDS, Plan
from bench.simulation.report import print_figures, print_row, print_title

#: Seconds of each simulation of a sweep.
SWEEP_S = 120.0
#: Seconds for which chats arrive in a check.
CHECK_S = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, help="workers, each with one GPU")
    parser.add_argument("--slots", type=int, help="chats that a worker runs at once")
    parser.add_argument("--models", type=float, nargs="+", help="shares of the models in chats and GPUs")
    parser.add_argument("--speed", choices=SPEEDS, default="8b", help="the engine whose steps were measured")
    parser.add_argument("--api-processes", type=int)
    parser.add_argument("--chats-per-day", type=float)
    parser.add_argument("--keys", type=int, help="API keys")
    parser.add_argument("--peak-factor", type=float, help="chats at the peak, as a multiple of the mean")
    parser.add_argument("--bursts", type=int, help="per day")
    parser.add_argument("--tokens-out", type=float, help="tokens of an answer, on average")
    parser.add_argument("--lengths", choices=("constant", "exponential", "lognormal"))
    parser.add_argument("--deaths-per-day", type=float, help="of each worker")
    parser.add_argument("--seconds", type=float, help="simulated time")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--sweep", type=float, nargs="+", help="multiples of the chats")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    given = {each.name: getattr(args, each.name, None) for each in fields(Plan)}
    plan = Plan(
        **{name: value for name, value in given.items() if value is not None} | {"speed": SPEEDS[args.speed]}
    )
    if args.measure:
        measure()
    elif args.check:
        check(args.seconds or CHECK_S, plan.seed, Costs.load())
    elif args.sweep:
        sweep(plan, Costs.load(), args.sweep)
    else:
        costs = Costs.load()
        print_figures(simulate(plan, costs), costs)


def measure() -> None:
    """Measure the costs on this machine, print and store them."""
    logging.disable()  # the measurement requeues many jobs, which would be logged
    costs = measure_processes(measure_ledger())
    processor, cores = platform.processor() or platform.machine(), os.cpu_count()
    named = replace(costs, machine=f"{cores} cores, {processor}, {date.today()}")
    named.save()
    print(COSTS_FILE.read_text("utf-8"))


def simulate(plan: Plan, costs: Costs) -> Figures:
    """Return the figures of the plan."""
    return Installation(plan, costs).run(arrivals(plan))


def sweep(plan: Plan, costs: Costs, multiples: Sequence[float]) -> None:
    """Print a row for each multiple of the chats, at the peak of the day."""
    print_title()
    for multiple in multiples:
        chats, begin_s = plan.chats_per_day * multiple, 3600 * plan.peak_hour
        peak = replace(plan, chats_per_day=chats, begin_s=begin_s, bursts=0, seconds=SWEEP_S)
        print_row(simulate(peak, costs))


if __name__ == "__main__":
    main()
