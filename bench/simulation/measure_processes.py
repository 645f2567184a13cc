"""The measurement of what a stack's processes cost while they are idle, and for each chat and event."""

import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

from bench.cost import Cost, measure
from bench.simulation.costs import Costs, Linear
from bench.simulation.ledger_load import CHAT
from bench.simulation.stack import Reading, Stack, running_stack
from worker.jobs.ledger.ledger import Ledger

__all__ = ["measure_processes"]

#: How often and for how many seconds idle processes are watched, after a pause in which they come to rest.
#: The time has whole rounds of everything that they do.
TIMES, IDLE_S, REST_S = 4, 10.0, 5.0
#: Workers that join the first one.
MORE_WORKERS = 4
#: Clients at once, and chats of each. The tokens of short and of long chats.
AT_ONCE, CHATS = 32, 4
SHORT, LONG = 1, 128


def measure_processes(costs: Costs) -> Costs:
    """Return these costs with those of processes added."""
    with running_stack("bench.steady_worker", AT_ONCE, 1) as stack:
        Ledger(stack.store).submit(uuid.uuid4().hex, "chat.nobody", CHAT)  # or recovery would rest
        alone, connections = _watch(stack), stack.connections()
        stack.start_workers(MORE_WORKERS)
        together, more_connections = _watch(stack), stack.connections()
        _measure_chats(stack, SHORT)  # the first chats warm the processes up
        short, long = _measure_chats(stack, SHORT), _measure_chats(stack, LONG)
        busy_connections = stack.connections()
    api, worker = _line(short, long, ["API"]), _line(short, long, short.cpu_ms.keys() - {"API"})
    worker_cpu_s = max(0.0, (together.cpu_s - alone.cpu_s) / MORE_WORKERS)
    worker_trips = (together.round_trips - alone.round_trips) / MORE_WORKERS
    worker_connections = (more_connections - connections) / MORE_WORKERS
    return replace(
        costs,
        api_chat=api.base,
        api_event=api.slope,
        worker_chat=worker.base,
        worker_event=worker.slope,
        idle_worker=worker_cpu_s,
        idle_worker_trips=worker_trips,
        idle_api=max(0.0, alone.cpu_s - worker_cpu_s),
        idle_api_trips=alone.round_trips - worker_trips,
        worker_connections=worker_connections,
        api_connections=busy_connections - (1 + MORE_WORKERS) * worker_connections,
    )


def _measure_chats(stack: Stack, tokens: int) -> Cost:
    return measure(stack.settings.url, AT_ONCE, tokens, CHATS, stack.processes)


def _line(short: Cost, long: Cost, processes: Collection[str]) -> Linear:
    """Return the CPU seconds of these processes for a chat, by the number of its events."""
    short_s, long_s = (sum(cost.cpu_ms[name] for name in processes) / 1000 for cost in (short, long))
    return Linear.through((short.chunks, short_s), (long.chunks, long_s))


def _watch(stack: Stack) -> Reading:
    """Return what Redis does in a second while nobody uses the stack, in the cheapest of some times."""
    time.sleep(REST_S)
    readings = [stack.read()]
    for _ in range(TIMES):
        time.sleep(IDLE_S)
        readings.append(stack.read())
    return min(after.since(before).per_second(IDLE_S) for before, after in pairwise(readings))
