"""Makes the runner of a worker. Only the code of the worker's own kind is imported."""

from pkgutil import resolve_name
from typing import Protocol

from worker.devices.lease import DeviceLease
from worker.jobs.kinds import find_kind
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner

__all__ = ["RunnerFactory", "make_runner"]


class RunnerFactory(Protocol):
    """The function that `Kind.runner` names."""

    def __call__(self, settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> Runner:
        """Return the kind's runner on the device. Raises `ConfigurationError` or `ModelMissing`."""


def make_runner(kind: str, settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> Runner:
    """Return the runner for this kind of job on the device. Raises `ConfigurationError` or `ModelMissing`."""
    factory: RunnerFactory = resolve_name(find_kind(kind).runner)
    return factory(settings, device, ledger, outbox)
