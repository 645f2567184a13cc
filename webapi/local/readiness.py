"""The readiness: says when a process of `stoker up` is ready for work, after a restart too."""

from collections.abc import Sequence

import click
from redis.exceptions import RedisError

from webapi.client import Client
from webapi.local.supervisor import Child
from worker.jobs.ledger.registry import Registry

__all__ = ["ReadinessReporter"]

#: Children that have nothing to announce.
SILENT = ("valkey", "webhooks")


class ReadinessReporter:
    """Looks at workers in Redis, since the API tells of them to holders of a key only."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self.client = client
        self.registry = registry
        self.ready: set[int] = set()

    def poll(self, children: Sequence[Child]) -> None:
        """Ask around, as long as there is something to wait for."""
        pids = {child.name: child.process.pid for child in children if child.process}
        new = {name: pid for name, pid in pids.items() if pid not in self.ready and name not in SILENT}
        if not new or not self.client.alive():
            return
        try:
            cards = {card.pid: card for card in self.registry.workers() if card.state == "ready"}
        except RedisError:
            return
        for name, pid in new.items():
            if card := cards.get(pid):
                click.echo(f"{name}: {card.model} on {card.device}, {card.slots} at once")
            elif name == "web":
                click.echo(f"web: {self.client.url}")
            else:
                continue
            self.ready.add(pid)
        if self.ready >= set(new.values()) and self.client.ready():
            click.echo(f"ready: {self.client.url} (Ctrl-C drains and stops)")
