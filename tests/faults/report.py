"""The report of a campaign: the table of docs/reliability.md, and the details of everything that is wrong."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.injector import REDIS_FAULTS, Fault, FaultInjector, FaultKind
from tests.faults.load import Load
from tests.faults.recovery_times import failover_times, recovery_times
from tests.support.audit import Audit

__all__ = ["Report"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """The results of a campaign.

    `unexpected_exits` and `stop_errors` are those of the `Cluster`.
    """

    audit: Audit
    injector: FaultInjector
    load: Load
    unexpected_exits: Mapping[str, Sequence[int]]
    stop_errors: Mapping[str, str]
    lease_ttl_s: float

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.audit.flaws or self.load.errors or self.stop_errors)

    def table(self) -> str:
        """Return the rows of a table in Markdown."""
        rows = [*self._work_rows(), *self._flaw_rows(), *self._recovery_rows()]
        return "\n".join(f"| {name} | {value} |" for name, value in rows)

    def findings(self) -> str:
        """Return everything that is wrong, with the logs of the jobs concerned and all faults."""
        lines = [*self.load.errors, *(f"{name}: {error}" for name, error in self.stop_errors.items())]
        for name, flaws in self.audit.flaws.items():
            lines += [f"{name}: {flaw.kind}: {flaw.detail}" for flaw in flaws]
            lines += [f"    {event}" for event in self.audit.logs.get(name, ())]
        return "\n".join([*lines, *(str(fault) for fault in self.injector.injected)])

    def _work_rows(self) -> Sequence[tuple[str, object]]:
        """Return the rows that count jobs and faults."""
        counts, faults = self.audit.counts, self.injector.counts()
        redis = {kind: faults[kind] for kind in REDIS_FAULTS if faults[kind]}
        others = {
            kind: count
            for kind, count in faults.items()
            if kind not in (*REDIS_FAULTS, FaultKind.KILL_WORKER)
        }
        repeated = f"{counts['repeated chat']} chats, {counts['repeated video']} videos"
        return [
            ("jobs", f"{counts['chat']} chats, {counts['video']} videos; {counts['events']} events"),
            ("run more than once", f"{repeated}; at most {counts['most attempts']} times"),
            ("canceled by their client", counts["canceled"]),
            ("batches of workers that have helped", counts["batches of helpers"]),
            ("worker SIGKILLs", faults[FaultKind.KILL_WORKER]),
            ("Redis faults", f"{sum(redis.values())}: {_list_counts(redis)}"),
            ("other faults", _list_counts(others)),
            ("jobs whose client got no response to the submit", counts["without a response"]),
            (
                "exits that no fault explains",
                _list_counts({k: str(v) for k, v in self.unexpected_exits.items()}),
            ),
        ]

    def _flaw_rows(self) -> Sequence[tuple[str, object]]:
        """Return the rows that must all be 0."""
        flaws = self.audit.flaw_counts()
        return [
            ("jobs lost", flaws["lost"]),
            ("jobs with two terminal events", flaws["terminal"]),
            ("logs with a gap", flaws["gap"]),
            ("events of a stale attempt", flaws["stale"]),
            ("wrong results", flaws["result"]),
            ("wrong streams among those followed", f"{flaws['follower']} of {len(self.load.seen)}"),
            ("files or keys left over", flaws["leftover"]),
            ("wrong accounts of owners", flaws["account"]),
            ("metrics that differ from the logs", flaws["metric"]),
            ("responses that no client should get", len(self.load.errors)),
            ("processes that did not stop cleanly", len(self.stop_errors)),
        ]

    def _recovery_rows(self) -> Sequence[tuple[str, object]]:
        name = f"from SIGKILL to the next token, another worker ready, lease {self.lease_ttl_s:g} s"
        calm = self._describe_recovery(self.injector.injected, 2 * self.lease_ttl_s)
        every = self._describe_recovery(self.injector.injected, 0)
        rows = [(name, calm), ("the same, with other faults in between", every)]
        if times := failover_times(self.load.seen, self.load.arrivals, self.injector.injected):
            rows.append(("from the loss of the primary to the next token at a client", _describe(times)))
        return rows

    def _describe_recovery(self, faults: Sequence[Fault], calm_s: float) -> str:
        times = recovery_times(self.audit.logs.values(), faults, calm_s)
        if not times:
            return "no chat was hit"
        return _describe(times)


def _describe(times: Sequence[float]) -> str:
    return f"median {statistics.median(times):.2f} s, max {max(times):.2f} s ({len(times)} chats)"


def _list_counts(counts: Mapping[Any, object]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
