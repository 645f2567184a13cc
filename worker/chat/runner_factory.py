"""Makes the runner of a chat worker, with the engine that the settings choose."""

from worker.chat.engines import make_engine
from worker.chat.runner import ChatRunner
from worker.devices.lease import DeviceLease
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.runs.outbox import Outbox

__all__ = ["make_runner"]


def make_runner(settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> ChatRunner:
    """Return the runner for chats on the device. Raises `ConfigurationError` or `ModelMissing`."""
    named = make_engine(settings, device.torch_device, device.gpus)
    return ChatRunner(
        named.engine,
        named.name,
        ledger,
        outbox,
        shared_prefix_cache=settings.shared_prefix_cache,
        control_tokens=settings.control_tokens,
        tool_parser=settings.tool_parser,
        reasoning_parser=settings.reasoning_parser,
        adapters=tuple(settings.lora),
    )
