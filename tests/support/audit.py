"""The audit: a check of every job in the ledger after a campaign."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from tests.support.event_checks import Expected, Flaw, check_chat, check_log, check_video
from tests.support.ledger import account_flaws
from tests.support.metric_checks import metric_flaws
from tests.support.video.pictures import read_pictures, same_pictures
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.media.files import JobFiles
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob

__all__ = ["Audit"]

Json = dict[str, Any]


#: The sets of a queue that must be empty after a campaign.
PARTS = ("waiting", "running", "offered")


class Load(Protocol):
    """What the clients of a load have seen: see `tests.faults.load.Load`."""

    accepted: list[str]
    canceled: set[str]
    seen: dict[str, list[Json]]


class Audit:
    """Compares every job in the ledger with its expected outcome.

    `expected` returns the outcome of a chat without faults, and `video` is the result of a video without
    faults. `check_jobs` fills `flaws` and `logs`, by job, and `counts`, the figures of the report.
    """

    def __init__(self, ledger: Ledger, expected: Callable[[ChatJob], Expected], video: Path) -> None:
        self.flaws: dict[str, Sequence[Flaw]] = {}
        self.logs: dict[str, Sequence[Json]] = {}
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._expected = expected
        self._pictures = read_pictures(video)

    def job_ids(self) -> Sequence[str]:
        """Return the ids of all jobs in the ledger."""
        return cast(list[str], self._ledger.store.client.zrange(self._ledger.store.key("jobs"), 0, -1))

    def check_jobs(self, reference_jobs: Sequence[str], load: Load) -> None:
        """Check all jobs in the ledger and all accepted jobs. `reference_jobs` are older than the load."""
        in_ledger, accepted = self.job_ids(), {*reference_jobs, *load.accepted}
        for job_id in {*in_ledger, *accepted}:
            self.logs[job_id] = [event.data for event in self._ledger.events(job_id)]
            self.flaws[job_id] = list(self._check_job(job_id, load))
        self.counts["without a response"] = len(set(in_ledger) - accepted)
        self.flaws["ledger"] = list(self._check_queues())
        self.flaws = {name: flaws for name, flaws in self.flaws.items() if flaws}

    def check_metrics(self) -> None:
        """Check the metrics in Redis against the logs of all jobs. Call `check_jobs` before."""
        flaws = [Flaw("metric", text) for text in metric_flaws(self._ledger, self.logs)]
        self.flaws |= {"metrics": flaws} if flaws else {}

    def flaw_counts(self) -> Mapping[str, int]:
        """Count the flaws of each kind."""
        return Counter(flaw.kind for flaws in self.flaws.values() for flaw in flaws)

    def _check_job(self, job_id: str, load: Load) -> Iterator[Flaw]:
        log, seen = self.logs[job_id], load.seen.get(job_id)
        yield from check_log(log)
        if seen is not None and seen != log:
            yield Flaw("follower", f"a client received {seen}")
        if not log:
            return
        record = self._ledger.get(job_id)
        self.counts["events"] += len(log)
        self._count(record)
        self.counts["batches of helpers"] += _batches_of_helpers(log)
        if (record.state, record.events) != (log[-1]["type"], len(log)):
            yield Flaw("terminal", f"the record is {record}")
        canceled = job_id in load.canceled
        if isinstance(record.spec, ChatJob):
            yield from check_chat(log, self._expected(record.spec), canceled)
        else:
            yield from check_video(log, len(self._pictures), canceled)
            yield from self._check_files(record)

    def _count(self, record: Record) -> None:
        self.counts[record.kind] += 1
        self.counts[record.state] += 1
        self.counts[f"repeated {record.kind}"] += record.attempt > 1
        self.counts["most attempts"] = max(self.counts["most attempts"], record.attempt)

    def _check_files(self, record: Record) -> Iterator[Flaw]:
        files = JobFiles.at(self._ledger.store.settings.media_dir, record.id)
        names = {path.name for path in files.folder.iterdir()} if files.folder.exists() else set()
        # A failed or canceled job keeps its inputs for a retry.
        left = {files.result.name} if record.state == "succeeded" else {path.name for path in files.inputs}
        if record.terminal and names != left:
            yield Flaw("leftover", f"its folder contains {sorted(names)}")
        size = sum((files.folder / name).stat().st_size for name in left & names)
        account = self._ledger.store.key("owner", record.owner, "file_bytes")
        accounted = int(self._ledger.store.client.hget(account, record.id) or 0)
        if record.terminal and accounted != size:
            yield Flaw("account", f"its files have {size} bytes, and its owner's account says {accounted}")
        if files.result.name in names:
            found = read_pictures(files.result)
            if not same_pictures(found, self._pictures):
                yield Flaw("result", f"its {len(found)} pictures differ from those without faults")

    def _check_queues(self) -> Iterator[Flaw]:
        """Yield a flaw for each set that still has waiting or running jobs."""
        key, redis = self._ledger.store.key, self._ledger.store.client
        for pattern in (*(f"queue:*:{part}" for part in PARTS), "worker:*:jobs", "job:*:segments"):
            for name in redis.scan_iter(key(pattern), count=10_000):
                yield Flaw("leftover", f"{name} is not empty")
        for flaw in account_flaws(self._ledger):
            yield Flaw("account", flaw)


def _batches_of_helpers(log: Sequence[Json]) -> int:
    """Return how many batches other workers have run than the one whose attempt has logged them."""
    owners = {event["attempt"]: event["worker"] for event in log if event["type"] == "started"}
    batches = [event for event in log if event["type"] == "batch"]
    return sum(event.get("worker", owners[event["attempt"]]) != owners[event["attempt"]] for event in batches)
