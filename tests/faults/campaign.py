"""A campaign: a cluster under load and chaos, then every job under audit."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.audit import Audit
from tests.faults.chaos import Chaos
from tests.faults.cluster import Cluster
from tests.faults.load import Load
from tests.faults.report import Report
from tests.support.event_checks import Expected
from tests.support.stack import eventually
from webapi.client import Client
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.ledger.queues import Queues
from worker.jobs.media.files import JobFiles
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob

__all__ = ["SETTINGS", "Plan", "run"]

Json = dict[str, Any]

#: For the last jobs to end once nothing disturbs them any more; what has not ended then is lost.
SETTLE_S = 120.0
#: Without a limit to attempts that would bite: a job that is hit again and again is not to blame here.
SETTINGS = Settings(lease_ttl_s=2, drain_s=2, max_attempts=50)


@dataclass(frozen=True)
class Plan:
    """What to run, and what to do to it.

    `app` is the workers' Celery app, `chat` makes the body of chat number n, and `undisturbed` tells, after
    trying if it must, what becomes of a chat.
    """

    settings: Settings
    app: str
    chats: int
    videos: int
    chat: Callable[[int], Json]
    undisturbed: Callable[[Client], Callable[[ChatJob], Expected]]
    clip: Path
    #: Clients that submit chats faster than they are answered, and others that follow one chat at a time.
    submitters: int
    followers: int
    deck: Mapping[str, int]
    #: Between two faults, at least and at most.
    pause_s: tuple[float, float]


def run(plan: Plan, seed: int, home: Path) -> Report:
    """Run the campaign; its processes' logs are in `home`."""
    with Cluster(plan.settings.replace(home=home), plan.app) as cluster:
        with Client(cluster.settings.url) as client:
            expected = plan.undisturbed(client)
            video = client.submit_video(plan.clip)["id"]
            assert list(client.events(video))[-1]["type"] == "succeeded"
        audit = Audit(cluster.ledger, expected, JobFiles.at(cluster.settings.media_dir, video).result)
        tried = audit.jobs()
        load = Load(
            cluster.settings,
            {"chat": plan.chats, "video": plan.videos},
            plan.chat,
            plan.clip,
            submitters=plan.submitters,
            followers=plan.followers,
        )
        chaos = Chaos(cluster, plan.deck, plan.pause_s, random.Random(seed))
        load.start()
        chaos.run()
        load.finish()
        _settle(Queues(cluster.ledger))
        Recovery(cluster.ledger).drop_files(0)  # as it does now and then: a kill may have hit the cleaning up
        audit.run(tried, load)
    return Report(audit, chaos, load, cluster.crashes, cluster.ends, plan.settings.lease_ttl_s)


def _settle(queues: Queues) -> None:
    """Wait until nothing waits or runs; if that does not come about the audit tells what is lost."""
    with suppress(TimeoutError):
        eventually(lambda: not any(q.waiting + q.running for q in queues.all_info()), "the end", SETTLE_S)
