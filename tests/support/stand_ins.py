"""Stand-ins: puts an engine of the tests' own into a real worker."""

from collections.abc import Callable

from worker import runners
from worker.chat.engine import ChatEngine
from worker.chat.runner import ChatRunner
from worker.devices.lease import DeviceLease
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner

__all__ = ["LONG", "serve_chats_with"]

#: Words of an unruly worker's `long` answer. It is here because importing that worker changes this process.
LONG = 250


def serve_chats_with(engine: Callable[[int], ChatEngine]) -> None:
    """Have this process' chat worker run the engine made for its slots."""
    real = runners.make_runner

    def make_runner(
        kind: str, settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox
    ) -> Runner:
        if kind == "chat":
            return ChatRunner(engine(settings.slots), "scripted", ledger, outbox)
        return real(kind, settings, device, ledger, outbox)

    runners.make_runner = make_runner
