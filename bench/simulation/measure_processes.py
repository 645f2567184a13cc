"""The measurement of what a stack's processes cost while they are idle, and for each chat and event."""

import time
import uuid
from collections.abc import Collection
from dataclasses import replace

from bench.cost import Cost, measure
from bench.simulation.costs import Costs
from bench.simulation.ledger_load import CHAT
from bench.simulation.stack import Reading, Stack, running_stack
from worker.jobs.ledger.ledger import Ledger

__all__ = ["measure_processes"]

#: Seconds for which idle processes are watched, after a pause in which they come to rest.
IDLE_S, REST_S = 20.0, 5.0
#: Workers that join the first one.
MORE_WORKERS = 2
#: Clients at once: with few, each token is an event. With many, an event has several tokens.
FEW, MANY = 8, 64
TOKENS, CHATS = 128, 4


def measure_processes(costs: Costs) -> Costs:
    """Return these costs with those of processes added."""
    with running_stack("bench.steady_worker", MANY, 1) as stack:
        Ledger(stack.store).submit(uuid.uuid4().hex, "chat.nobody", CHAT)  # or recovery would rest
        one, connections = _watch(stack), stack.connections()
        stack.start_workers(MORE_WORKERS)
        three, more_connections = _watch(stack), stack.connections()
        few, many = _measure_chats(stack, FEW), _measure_chats(stack, MANY)
        busy_connections = stack.connections()
    api, worker = _line(few, many, ["API"]), _line(few, many, few.cpu_ms.keys() - {"API"})
    worker_cpu_s = max(0.0, (three.cpu_s - one.cpu_s) / MORE_WORKERS)
    worker_trips = (three.round_trips - one.round_trips) / MORE_WORKERS
    worker_connections = (more_connections - connections) / MORE_WORKERS
    return replace(
        costs,
        api_chat=api[0],
        api_event=api[1],
        worker_chat=worker[0],
        worker_event=worker[1],
        idle_worker=worker_cpu_s,
        idle_worker_trips=worker_trips,
        idle_api=max(0.0, one.cpu_s - worker_cpu_s),
        idle_api_trips=one.round_trips - worker_trips,
        worker_connections=worker_connections,
        api_connections=busy_connections - (1 + MORE_WORKERS) * worker_connections,
    )


def _measure_chats(stack: Stack, at_once: int) -> Cost:
    measure(stack.settings.url, at_once, TOKENS, 1, stack.processes)  # the first chats warm the processes up
    return measure(stack.settings.url, at_once, TOKENS, CHATS, stack.processes)


def _line(few: Cost, many: Cost, processes: Collection[str]) -> tuple[float, float]:
    """Return the CPU seconds of these processes for each chat, and for each event."""
    few_ms, many_ms = (sum(cost.cpu_ms[name] for name in processes) for cost in (few, many))
    event_ms = (few_ms - many_ms) / (few.chunks - many.chunks)
    return (many_ms - event_ms * many.chunks) / 1000, event_ms / 1000


def _watch(stack: Stack) -> Reading:
    """Return what Redis does in a second while nobody uses the stack."""
    time.sleep(REST_S)
    before = stack.read()
    time.sleep(IDLE_S)
    return stack.read().since(before).per_second(IDLE_S)
