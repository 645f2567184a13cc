"""How long a key that trickles waits beside one that floods; and, beside it, both behind one key.

    python -m bench.fairness [--flood 150] [--trickle 12] [--slots 4]

A stack with a scripted engine whose answers take about a second. The flood is submitted at once; then the
trickle comes, a chat a second. First each has a key of its own, then both share one, which is the
plain queue that most systems have. Waits are from `queued` to `started`, by the events' own times.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from bench.processes import process, scripted_argv, scripted_settings
from tests.support.stack import eventually
from webapi.client import Client
from webapi.local.commands import web_argv
from webapi.services.keys import Keys
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings

Json = dict[str, Any]


def chat(number: int) -> Json:
    return {"messages": [{"role": "user", "content": str(number)}], "max_tokens": 50}


def wait_s(client: Client, job_id: str) -> float:
    """Between the job's submission and its first start."""
    at: dict[str, float] = {}
    for event in client.events(job_id):
        at.setdefault(event["type"], datetime.fromisoformat(event["time"]).timestamp())
    return at["started"] - at["queued"]


def waits(flood: Client, trickle: Client, flooding: int, trickling: int) -> dict[str, list[float]]:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: flood.submit_chat(chat(n))["id"], range(flooding)))
    drops = []
    for number in range(trickling):
        drops.append(trickle.submit_chat(chat(number))["id"])
        time.sleep(1.0)
    slow = [wait_s(trickle, job_id) for job_id in drops]
    return {"trickle": slow, "flood": [wait_s(flood, job_id) for job_id in jobs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=150)
    parser.add_argument("--trickle", type=int, default=12)
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=args.slots))
        keys = Keys(Ledger(settings))
        flood, trickle = (stack.enter_context(client(settings, keys.create(n).text)) for n in ("a", "b"))
        argv = scripted_argv("tests.support.workers.fake", settings)
        stack.enter_context(process(web_argv(settings), settings, settings.home_dir / "web.log"))
        stack.enter_context(process(argv, settings, settings.home_dir / "chat.log"))
        eventually(lambda: flood.alive() and flood.workers(), "a worker")
        print(f"{args.flood} chats at once, then {args.trickle}, one a second; {args.slots} slots")
        print(f"{'':>22} {'trickle: median':>16} {'max':>8} {'flood: median':>14} {'max':>8}")
        for name, other in (("a key each", trickle), ("one key for both", flood)):
            found = waits(flood, other, args.flood, args.trickle)
            figures = [f(found[who]) for who in ("trickle", "flood") for f in (statistics.median, max)]
            print("{:>22} {:>14.2f} s {:>6.2f} s {:>12.2f} s {:>6.2f} s".format(name, *figures), flush=True)


def client(settings: Settings, key: str) -> Client:
    return Client(settings.url, api_key=key)


if __name__ == "__main__":
    main()
