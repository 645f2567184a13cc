"""A function that makes a real worker serve chats with an engine of the tests."""

from collections.abc import Callable
from dataclasses import replace

from worker.chat.engine import ChatEngine
from worker.chat.runner import HANG_S, ChatRunner
from worker.devices.lease import DeviceLease
from worker.jobs.kinds import KINDS
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob
from worker.runs.outbox import Outbox

__all__ = ["LONG", "STORY", "make_runner", "serve_chats_with"]

#: The numbers of words of an unruly worker's answers `long` and `story`. They are defined here because an
#: import of that worker's module would change the importing process.
LONG, STORY = 250, 2000

#: The engine of this process, by the number of slots, and the seconds after which it counts as hanging.
_engine: tuple[Callable[[int], ChatEngine], float]


def serve_chats_with(engine: Callable[[int], ChatEngine], *, hang_s: float = HANG_S) -> None:
    """Make the chat worker of this process use `engine(slots)`.

    The engine counts as hanging after `hang_s` seconds without a token.
    """
    global _engine
    _engine = engine, hang_s
    KINDS[ChatJob.kind] = replace(KINDS[ChatJob.kind], runner=f"{__name__}:{make_runner.__name__}")


def make_runner(settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> ChatRunner:
    """Return a runner of chats with the engine of this process."""
    engine, hang_s = _engine
    return ChatRunner(engine(settings.slots), "scripted", ledger, outbox, hang_s=hang_s)
