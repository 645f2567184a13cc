"""The report of a campaign: its table for the README, and all that is wrong in full."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.audit import Audit
from tests.faults.chaos import REDIS_FAULTS, Blow, Chaos
from tests.faults.load import Load
from tests.faults.recovery import recoveries

__all__ = ["Report"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What came of a campaign.

    `crashes` are exit codes that no fault explains, `ends` what was wrong with processes when all were
    stopped, both by process.
    """

    audit: Audit
    chaos: Chaos
    load: Load
    crashes: Mapping[str, Sequence[int]]
    ends: Mapping[str, str]
    lease_ttl_s: float

    @property
    def good(self) -> bool:
        return not (self.audit.flaws or self.load.surprises or self.ends)

    def table(self) -> str:
        """In Markdown."""
        rows = [*self._done(), *self._wrong(), *self._recovery()]
        return "\n".join(f"| {name} | {value} |" for name, value in rows)

    def findings(self) -> str:
        """All that is wrong, with the logs of the jobs concerned and the faults there were."""
        lines = [*self.load.surprises, *(f"{name}: {end}" for name, end in self.ends.items())]
        for name, flaws in self.audit.flaws.items():
            lines += [f"{name}: {flaw.kind}: {flaw.detail}" for flaw in flaws]
            lines += [f"    {event}" for event in self.audit.logs.get(name, ())]
        return "\n".join([*lines, *(str(blow) for blow in self.chaos.blows)])

    def _done(self) -> Sequence[tuple[str, object]]:
        counts, faults = self.audit.counts, self.chaos.counts()
        redis = {name: faults[name] for name in REDIS_FAULTS if faults[name]}
        others = {name: count for name, count in faults.items() if name not in (*REDIS_FAULTS, "kill worker")}
        again = f"{counts['chat again']} chats, {counts['video again']} videos"
        return [
            ("jobs", f"{counts['chat']} chats, {counts['video']} videos; {counts['events']} events"),
            ("of them run more than once", f"{again}; at most {counts['most attempts']} times"),
            ("of them canceled by their client", counts["canceled"]),
            ("worker SIGKILLs", faults["kill worker"]),
            ("Redis faults", f"{sum(redis.values())}: {_listed(redis)}"),
            ("other faults", _listed(others)),
            ("jobs whose client got no answer to the submit", counts["without an answer"]),
            ("exits of processes of their own accord", _listed({k: str(v) for k, v in self.crashes.items()})),
        ]

    def _wrong(self) -> Sequence[tuple[str, object]]:
        flaws = self.audit.kinds()
        return [
            ("jobs lost", flaws["lost"]),
            ("jobs with two endings", flaws["endings"]),
            ("jobs with a gap", flaws["gap"]),
            ("events of a stale attempt", flaws["stale"]),
            ("wrong results", flaws["result"]),
            (f"of {len(self.load.seen)} streams followed, wrong", flaws["follower"]),
            ("files or keys left over", flaws["leftover"]),
            ("answers that no client should get", len(self.load.surprises)),
            ("processes that did not end well", len(self.ends)),
        ]

    def _recovery(self) -> Sequence[tuple[str, object]]:
        name = f"SIGKILL to next token, lease {self.lease_ttl_s:g} s"
        calm = self._times(self.chaos.blows, 2 * self.lease_ttl_s)
        return [(name, calm), ("the same, other faults in between", self._times(self.chaos.blows, 0))]

    def _times(self, blows: Sequence[Blow], calm_s: float) -> str:
        found = recoveries(self.audit.logs.values(), blows, calm_s)
        if not found:
            return "no chat was hit"
        return f"median {statistics.median(found):.2f} s, max {max(found):.2f} s ({len(found)} chats)"


def _listed(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
