"""The check of every job at the end of the scenario."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.compose.traffic import Traffic
from tests.compose.videos import Videos
from tests.support.event_checks import Flaw
from webapi.client import Client

__all__ = ["check_all_jobs"]

Json = dict[str, Any]


def check_all_jobs(client: Client, traffic: Traffic, videos: Videos) -> Iterator[str]:
    """Check that every accepted job succeeded with the right log, and that there are no other jobs.

    Yield two lines with the figures. Raises `AssertionError` with everything that is wrong.
    """
    flaws = [*traffic.find_flaws(), *videos.find_flaws()]
    jobs = _list_jobs(client)
    accepted = len(traffic.chats) + len(videos.logs)
    if len(jobs) != accepted or any(job["state"] != "succeeded" for job in jobs):
        flaws.append(Flaw("lost", f"{accepted} jobs were accepted; the API lists {jobs}"))
    queues = client.queues()
    if any(queue["waiting"] or queue["running"] for queue in queues):
        flaws.append(Flaw("leftover", f"{queues}"))
    repeated = sum(job["attempt"] > 1 for job in jobs)
    events = sum(map(len, [*traffic.seen.values(), *videos.logs]))
    yield f"{accepted} jobs accepted, {len(jobs)} succeeded, {repeated} of them in more than one attempt"
    assert not flaws, "\n".join(map(str, flaws))
    assert not traffic.errors, "\n".join(traffic.errors)
    yield f"{events} events without a flaw, and nothing unexpected"


def _list_jobs(client: Client) -> Sequence[Json]:
    """Return the documents of all jobs, from all pages of the list."""
    jobs: list[Json] = []
    path: str | None = "/v1/jobs?limit=100"
    while path:
        page = client.http.get(path).raise_for_status().json()
        jobs += page["jobs"]
        path = page["links"]["next"]
    return jobs
