"""A stack without jobs: it asks Redis for little, and still notices what happens."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.stack import eventually
from worker.jobs.settings import Settings

#: With two workers Redis executes about 15 commands for each heartbeat, and nine of them are the heartbeat's
#: own. If all three processes polled ten times per lease, each command of such a poll would add five.
MOST_COMMANDS = 21
#: The heartbeats of two leases of both workers.
WINDOW = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home: Path = tmp_path_factory.mktemp("idle")
    chats = {"kinds": ("chat",), "lease_ttl_s": 2, "drain_s": 0.5, "chat_model": "unruly"}
    with Cluster(Settings.model_validate({"home": home, **chats}), "tests.support.workers.unruly") as cluster:
        yield cluster


def counts(cluster: Cluster) -> dict[str, int]:
    """Return how often Redis has executed each command, without what this test needs for that."""
    stats = cluster.ledger.store.client.info("commandstats")
    names = stats.keys() - {"cmdstat_info"}  # a heartbeat has one, too
    return {name.removeprefix("cmdstat_"): int(stats[name]["calls"]) for name in names}


def after_heartbeats(cluster: Cluster, number: int) -> dict[str, int]:
    """Return the counts after so many more heartbeats. Each of them stores a card, and nothing else does."""
    began = counts(cluster)["hset"]
    return eventually(
        lambda: now if (now := counts(cluster))["hset"] >= began + number else None, "heartbeats"
    )


def test_idle_stack_asks_redis_for_little(cluster: Cluster) -> None:
    before = after_heartbeats(cluster, WINDOW)  # the last steps of the start have been made
    after = after_heartbeats(cluster, WINDOW)
    executed = {name: calls - before.get(name, 0) for name, calls in after.items()}
    assert sum(executed.values()) <= MOST_COMMANDS * executed["hset"], executed


def test_idle_stack_forgets_killed_worker(cluster: Cluster) -> None:
    worker = cluster.workers["chat-2"]
    killed = worker.pid
    worker.signal(signal.SIGKILL)
    eventually(lambda: killed not in {card.pid for card in cluster.cards()}, "a card that is removed")
