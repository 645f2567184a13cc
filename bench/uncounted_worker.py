"""The worker of `bench.steady_worker` without the metrics of its chats, for a comparison."""

from collections.abc import Mapping
from importlib import resources

from bench.steady_worker import app
from worker.chat.transcript.chat_metrics import ChatMetrics
from worker.jobs.ledger.appends import NO_INCREMENTS
from worker.jobs.ledger.scripts import Scripts

__all__ = ["app"]

COUNTING = resources.files("worker.jobs.ledger").joinpath("lua/metrics.lua").read_text("utf-8")
NOT_COUNTING = "local METRICS, count, observe, raise = '', type, type, type\n"


def _ignore(*_: object) -> None:
    return


def _take_nothing(*_: object) -> Mapping[str, int]:
    return NO_INCREMENTS


def _sha(scripts: Scripts, name: str) -> str:
    scripts._shared = scripts._shared.replace(COUNTING, NOT_COUNTING)
    return _load(scripts, name)


_load = Scripts.sha
setattr(Scripts, "sha", _sha)  # noqa: B010
for _name, _stand_in in {"add": _ignore, "add_end": _ignore, "take": _take_nothing, "due": False}.items():
    setattr(ChatMetrics, _name, _stand_in)
