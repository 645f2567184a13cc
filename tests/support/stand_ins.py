"""A function that makes a real worker serve chats with an engine of the tests."""

from collections.abc import Callable

from worker import runners
from worker.chat.engine import ChatEngine
from worker.chat.runner import HANG_S, ChatRunner
from worker.devices.lease import DeviceLease
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner

__all__ = ["LONG", "serve_chats_with"]

#: The number of words of an unruly worker's `long` answer. It is defined here because an import of that
#: worker's module would change the importing process.
LONG = 250


def serve_chats_with(engine: Callable[[int], ChatEngine], *, hang_s: float = HANG_S) -> None:
    """Make the chat worker of this process use `engine(slots)`.

    The engine counts as hanging after `hang_s` seconds without a token.
    """
    real = runners.make_runner

    def make_runner(
        kind: str, settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox
    ) -> Runner:
        if kind == "chat":
            return ChatRunner(engine(settings.slots), "scripted", ledger, outbox, hang_s=hang_s)
        return real(kind, settings, device, ledger, outbox)

    runners.make_runner = make_runner
