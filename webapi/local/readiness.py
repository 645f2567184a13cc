"""Prints when the processes of `stoker up` are ready, at the start and after a restart."""

from collections.abc import Sequence

import click
from redis.exceptions import RedisError

from webapi.client import Client
from webapi.local.supervisor import Child
from worker.jobs.ledger.registry import Registry

__all__ = ["ReadinessReporter"]

#: Children whose readiness is not printed.
SILENT = ("valkey", "webhooks")


class ReadinessReporter:
    """A reporter that prints a line for each child that becomes ready, and one when the whole stack is.

    It reads the workers' cards from Redis, because the API shows them only to clients with a key.
    """

    def __init__(self, client: Client, registry: Registry) -> None:
        self.client = client
        self.registry = registry
        self.ready: set[int] = set()

    def poll(self, children: Sequence[Child]) -> None:
        """Check the children that were not ready at the last call, and print the ones that are ready now."""
        named = {child.name: child for child in children}
        pids = {name: child.process.pid for name, child in named.items() if child.process}
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
            named[name].proved = True
        if self.ready >= set(new.values()) and self.client.ready():
            click.echo(f"ready: {self.client.url} (Ctrl-C drains and stops)")
