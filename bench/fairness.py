"""Measure how long the jobs of a key with few chats wait beside a key that floods the queue.

    python -m bench.fairness [--flood 150] [--trickle 12] [--slots 4]

The stack has a scripted engine whose answers take about a second. The chats of the flood are submitted all at
once. Then the trickle follows, one chat per second. In the first case each caller has its own key. In the
second case both share one key, as in the plain queue that most systems have. A wait is the time from `queued`
to `started`, by the times of the events.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from bench.processes import running_process, scripted_argv, scripted_settings
from tests.support.stack import eventually
from webapi.client import Client
from webapi.keys.keys import Keys
from webapi.local.commands import web_argv
from worker.jobs.ledger.store import RedisStore

Json = dict[str, Any]


def chat_body(number: int) -> Json:
    return {"messages": [{"role": "user", "content": str(number)}], "max_tokens": 50}


def wait_s(client: Client, job_id: str) -> float:
    """Wait for the job's end; return the seconds from its submission to its first start."""
    first: dict[str, float] = {}
    for event in client.events(job_id):
        first.setdefault(event["type"], datetime.fromisoformat(event["time"]).timestamp())
    return first["started"] - first["queued"]


def measure_waits(
    flood: Client, trickle: Client, flood_count: int, trickle_count: int
) -> dict[str, list[float]]:
    """Submit the chats of both callers, and return the waits of each in seconds."""
    with ThreadPoolExecutor(8) as pool:
        flood_jobs = list(pool.map(lambda n: flood.submit_chat(chat_body(n))["id"], range(flood_count)))
    trickle_jobs = []
    for number in range(trickle_count):
        trickle_jobs.append(trickle.submit_chat(chat_body(number))["id"])
        time.sleep(1.0)
    trickle_waits = [wait_s(trickle, job_id) for job_id in trickle_jobs]
    return {"trickle": trickle_waits, "flood": [wait_s(flood, job_id) for job_id in flood_jobs]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flood", type=int, default=150, help="chats that are submitted at once")
    parser.add_argument("--trickle", type=int, default=12, help="chats that follow, one per second")
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=args.slots))
        keys = Keys(RedisStore(settings))
        flood, trickle = (
            stack.enter_context(Client(settings.url, api_key=keys.create(name).text)) for name in ("a", "b")
        )
        argv = scripted_argv("tests.support.workers.fake", settings)
        stack.enter_context(running_process(web_argv(settings), settings, settings.home_dir / "web.log"))
        stack.enter_context(running_process(argv, settings, settings.home_dir / "chat.log"))
        eventually(lambda: flood.alive() and flood.workers(), "a worker")
        print(f"{args.flood} chats at once, then {args.trickle}, one a second; {args.slots} slots")
        print(f"{'':>22} {'trickle: median':>16} {'max':>8} {'flood: median':>14} {'max':>8}")
        for name, other in (("a key each", trickle), ("one key for both", flood)):
            waits = measure_waits(flood, other, args.flood, args.trickle)
            figures = [f(waits[caller]) for caller in ("trickle", "flood") for f in (statistics.median, max)]
            print("{:>22} {:>14.2f} s {:>6.2f} s {:>12.2f} s {:>6.2f} s".format(name, *figures), flush=True)


if __name__ == "__main__":
    main()
