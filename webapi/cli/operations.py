"""`stoker queue` and `stoker worker drain`: the commands of administrators, clients of an API."""

import click

from webapi.cli.api import URL, client_of

__all__ = ["drain", "queue"]


@click.group()
def queue() -> None:
    """Pause and resume queues. This needs the key of an administrator, see `stoker keys create --admin`."""


@queue.command()
@URL
@click.argument("name", metavar="QUEUE")
def pause(url: str | None, name: str) -> None:
    """Pause QUEUE, such as chat.MODEL. Its jobs wait, running jobs go on, and new jobs are accepted."""
    found = client_of(url).pause_queue(name)
    click.echo(f"{name} is paused: {found['waiting']} jobs wait, {found['running']} run")


@queue.command()
@URL
@click.argument("name", metavar="QUEUE")
def resume(url: str | None, name: str) -> None:
    """Resume the paused QUEUE."""
    client_of(url).resume_queue(name)
    click.echo(f"{name} is not paused")


@click.command()
@URL
@click.argument("name", metavar="WORKER")
def drain(url: str | None, name: str) -> None:
    """Drain the worker with the name WORKER, as SIGTERM does. `stoker status` lists the names.

    It takes no new job, finishes its jobs or hands them to other workers, and ends. A supervisor such as
    `stoker up` then starts another one.
    """
    client_of(url).drain_worker(name)
    click.echo(f"{name} drains after its next heartbeat")
