"""The audit: every job of a campaign's ledger through the checker, and what became of the kills."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tests.faults.load import Load
from tests.support.event_checks import Expected, Flaw, check_chat, check_log, check_video
from tests.support.pictures import pictures, same
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.media.files import JobFiles
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob

__all__ = [
    "Audit",
]

Json = dict[str, Any]


class Audit:
    """What the ledger holds in the end against what it should, job by job; `video` is an undisturbed one."""

    def __init__(self, ledger: Ledger, expected: Callable[[ChatJob], Expected], video: Path) -> None:
        self.flaws: dict[str, Sequence[Flaw]] = {}
        self.logs: dict[str, Sequence[Json]] = {}
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._expected = expected
        self._pictures = pictures(video)

    def jobs(self) -> Sequence[str]:
        """All jobs there are."""
        return cast(list[str], self._ledger.redis.zrange(self._ledger.key("jobs"), 0, -1))

    def run(self, tried: Sequence[str], load: Load) -> None:
        """Look at every job there is, and at those that there should be; `tried` are from before the load."""
        jobs, accepted = self.jobs(), {*tried, *load.accepted}
        for job_id in {*jobs, *accepted}:
            self.logs[job_id] = [event.data for event in self._ledger.events(job_id)]
            self.flaws[job_id] = list(self._check(job_id, load))
        self.counts["without an answer"] = len(set(jobs) - accepted)
        self.flaws["ledger"] = list(self._left_over())
        self.flaws = {name: flaws for name, flaws in self.flaws.items() if flaws}

    def kinds(self) -> Mapping[str, int]:
        """How many flaws of each kind there are."""
        return Counter(flaw.kind for flaws in self.flaws.values() for flaw in flaws)

    def _check(self, job_id: str, load: Load) -> Iterator[Flaw]:
        log, seen = self.logs[job_id], load.seen.get(job_id)
        yield from check_log(log)
        if seen is not None and seen != log:
            yield Flaw("follower", f"a client saw {seen}")
        if not log:
            return
        record = self._ledger.get(job_id)
        self.counts[record.kind] += 1
        self.counts[record.state] += 1
        self.counts["events"] += len(log)
        self.counts[f"{record.kind} again"] += record.attempt > 1
        self.counts["most attempts"] = max(self.counts["most attempts"], record.attempt)
        if (record.state, record.events) != (log[-1]["type"], len(log)):
            yield Flaw("endings", f"the record says {record}")
        canceled = job_id in load.canceled
        if isinstance(record.spec, ChatJob):
            yield from check_chat(log, self._expected(record.spec), canceled)
        else:
            yield from check_video(log, len(self._pictures), canceled)
            yield from self._check_files(record)

    def _check_files(self, record: Record) -> Iterator[Flaw]:
        files = JobFiles.at(self._ledger.settings.media_dir, record.id)
        names = {path.name for path in files.folder.iterdir()} if files.folder.exists() else set()
        succeeded = record.state == "succeeded"
        if record.terminal and names != {files.clip.name} | ({files.result.name} if succeeded else set()):
            yield Flaw("leftover", f"its folder holds {sorted(names)}")
        if files.result.name in names and not same(found := pictures(files.result), self._pictures):
            yield Flaw("result", f"its {len(found)} pictures are not the undisturbed ones")

    def _left_over(self) -> Iterator[Flaw]:
        """Sets that name jobs as waiting or running, when all have ended."""
        key, redis = self._ledger.key, self._ledger.redis
        for pattern in ("queue:*:waiting", "queue:*:running", "worker:*:jobs"):
            for name in redis.scan_iter(key(pattern)):
                yield Flaw("leftover", f"{name} is not empty")
