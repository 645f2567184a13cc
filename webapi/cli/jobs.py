"""`stoker jobs`, `status`, `cancel` and `retry`: the commands for all jobs."""

import uuid
from collections.abc import Sequence
from typing import Any, get_args

import click

from webapi.cli.api import URL, client_of
from webapi.cli.json_option import JSON
from webapi.cli.listing import WATCH, Tables, show_listing
from webapi.client import Client
from webapi.client.errors import Json
from worker.jobs.kinds import KINDS
from worker.jobs.records import JobState

__all__ = ["cancel", "jobs", "retry", "status"]


@click.command()
@URL
@click.argument("job_id", metavar="JOB")
def cancel(url: str | None, job_id: str) -> None:
    """Cancel the job with the id JOB. A running job ends at its next step."""
    job = client_of(url).cancel(job_id)
    click.echo(f"job {job_id} is {'being canceled' if job['state'] == 'running' else job['state']}")


@click.command()
@URL
@click.argument("job_id", metavar="JOB")
def retry(url: str | None, job_id: str) -> None:
    """Submit the failed or canceled job with the id JOB again, as a new job, and print the new id."""
    job = client_of(url).retry(job_id, idempotency_key=uuid.uuid4().hex)
    click.echo(job["id"])


@click.command()
@URL
@click.option("--state", type=click.Choice(get_args(JobState)), help="Only the jobs in this state.")
@click.option("--kind", type=click.Choice([*KINDS]), help="Only the jobs of this kind.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Number of jobs.")
@JSON
@WATCH
def jobs(url: str | None, as_json: bool, watching: bool, **chosen: Any) -> None:
    """List your jobs, newest first."""
    client = client_of(url)
    show_listing(lambda: client.jobs(**chosen), _jobs_tables, as_json=as_json, watching=watching)


@click.command()
@URL
@JSON
@WATCH
def status(url: str | None, as_json: bool, watching: bool) -> None:
    """Show the queues, their jobs, and the workers."""
    client = client_of(url)
    show_listing(lambda: _status(client), _status_tables, as_json=as_json, watching=watching)


def _status(client: Client) -> dict[str, list[Json]]:
    queues, workers = client.queues(), client.workers()
    listed = client.jobs("queued")[::-1] + client.jobs("running")
    # A job may have started between the two requests.
    return {"queues": queues, "jobs": list({job["id"]: job for job in listed}.values()), "workers": workers}


def _jobs_tables(found: list[Json]) -> Tables:
    return [("JOB KIND MODEL STATE PROGRESS ATTEMPT WORKER", map(_job_row, found))]


def _status_tables(found: dict[str, list[Json]]) -> Tables:
    return [
        ("QUEUE WAITING RUNNING SLOTS CAP WAIT", map(_queue_row, found["queues"])),
        *_jobs_tables(found["jobs"]),
        ("WORKER STATE DEVICE MODEL ENGINE RUNNING MEMORY", map(_worker_row, found["workers"])),
    ]


def _queue_row(queue: Json) -> Sequence[object]:
    wait = queue["estimated_wait_s"]
    counts = [queue[name] for name in ("name", "waiting", "running", "slots", "max_waiting")]
    if queue.get("paused"):  # an older API does not tell it
        return [*counts, "paused"]
    return [*counts, "unknown" if wait is None else f"{wait:.0f} s"]


def _job_row(job: Json) -> Sequence[object]:
    done = job["progress"]
    progress = f"{done['done']}/{done['total'] or '?'} {done['unit']}"
    if job["state"] == "queued":
        progress = f"position {job['queue_position'] or '?'}"  # the job may just have left the queue
    model = job.get("model", "-")  # an older API does not tell it
    return [job["id"], job["kind"], model, job["state"], progress, job["attempt"], job["worker"] or "-"]


def _worker_row(card: Json) -> Sequence[object]:
    memory, slots = card["memory"], f"{card['running']}/{card['slots']}"
    used = f"{memory['allocated'] / 2**20:.0f} MiB ({memory['source']})" if memory else "-"
    return [card["name"], card["state"], card["device"], card["model"], card["engine"], slots, used]
