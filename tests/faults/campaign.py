"""A campaign: a cluster under load and faults, then a check of every job."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.injector import FaultInjector, FaultKind
from tests.faults.load import Load
from tests.faults.report import Report
from tests.support.audit import Audit
from tests.support.cluster import Cluster
from tests.support.event_checks import Expected
from tests.support.stack import eventually
from webapi.client import Client
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.ledger.queues import Queues
from worker.jobs.media.files import JobFiles
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob

__all__ = ["SETTINGS", "Plan", "run_campaign"]

Json = dict[str, Any]

#: Time limit for the last jobs to end when there are no more faults. A job that has not ended then is lost.
SETTLE_S = 120.0
#: The limit of attempts is too high to be reached: it is not an error that faults hit a job again and again.
SETTINGS = Settings(lease_ttl_s=2, drain_s=2, max_attempts=50)


@dataclass(frozen=True)
class Plan:
    """The jobs and the faults of a campaign."""

    settings: Settings
    #: The Celery app of the workers.
    app: str
    #: The least numbers of chats and videos.
    chats: int
    videos: int
    #: Makes the body of chat number n.
    chat_body: Callable[[int], Json]
    #: Returns a function from a chat to its outcome without faults. It may run chats to find out.
    reference: Callable[[Client], Callable[[ChatJob], Expected]]
    clip: Path
    #: Number of clients that submit chats faster than the workers answer them.
    submitters: int
    #: Number of clients that follow one chat at a time.
    followers: int
    #: How often each kind of fault is injected.
    faults: Mapping[FaultKind, int]
    #: The shortest and the longest pause between two faults.
    pause_s: tuple[float, float]
    #: Whether Redis is a primary with replicas and Sentinels.
    sentinels: bool = False
    video_workers: int = 1
    #: The most videos that run at once. Other workers then help with them. None: some always wait.
    max_videos: int | None = None


def run_campaign(plan: Plan, seed: int, home: Path) -> Report:
    """Run the campaign. The logs of its processes are in `home`."""
    settings = plan.settings.replace(home=home)
    with Cluster(settings, plan.app, sentinels=plan.sentinels, video_workers=plan.video_workers) as cluster:
        with Client(cluster.settings.url) as client:
            expected = plan.reference(client)
            video = client.submit_video(plan.clip)["id"]
            assert list(client.events(video))[-1]["type"] == "succeeded"
        audit = Audit(cluster.ledger, expected, JobFiles.at(cluster.settings.media_dir, video).result)
        reference_jobs = audit.job_ids()
        load = Load(
            cluster.settings,
            {"chat": plan.chats, "video": plan.videos},
            plan.chat_body,
            plan.clip,
            submitters=plan.submitters,
            followers=plan.followers,
            max_videos=plan.max_videos,
        )
        injector = FaultInjector(cluster, plan.faults, plan.pause_s, random.Random(seed))
        load.start()
        injector.inject_all()
        load.finish()
        _wait_until_idle(Queues(cluster.ledger.store))
        # A kill may have interrupted the removal of a job's files. Recovery removes them later: do it now.
        cleanup = FileCleanup(cluster.ledger, open_media_store(cluster.settings))
        cleanup.remove_inputs(0)
        cleanup.drop_unneeded(0)
        audit.check_jobs(reference_jobs, load)
        audit.check_metrics()
    return Report(
        audit, injector, load, cluster.unexpected_exits, cluster.stop_errors, plan.settings.lease_ttl_s
    )


def _wait_until_idle(queues: Queues) -> None:
    """Wait until no job waits or runs, but not longer than `SETTLE_S`. The audit then reports lost jobs."""
    with suppress(TimeoutError):
        eventually(lambda: not any(q.waiting + q.running for q in queues.all_info()), "the end", SETTLE_S)
