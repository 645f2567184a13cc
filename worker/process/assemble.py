"""Assembly: it builds the parts of a worker process in their order, device first."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker import runners
from worker.devices.lease import DeviceLease, lease
from worker.jobs.cards import WorkerCard
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.errors import ConfigurationError
from worker.jobs.kinds import kind_of, queue_of
from worker.jobs.ledger.announcements import Announcements
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, set_env
from worker.lane.helping import Helping
from worker.lane.lane import Lane
from worker.lane.pool import LanePool
from worker.lane.reconciler import Reconciler
from worker.lane.task_events import TaskEvents
from worker.runs.hooks import RunHooks
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner

__all__ = ["WorkerParts", "assemble", "queue_of_worker"]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of one worker process. None of them has been started."""

    device: DeviceLease
    #: The card as it is at the start of the worker.
    card: WorkerCard
    store: RedisStore
    registry: Registry
    dispatcher: Dispatcher
    outbox: Outbox
    runner: Runner
    lane: Lane
    pool: LanePool
    reconciler: Reconciler
    recovery: Recovery
    helping: Helping
    announcements: Announcements
    task_events: TaskEvents


def queue_of_worker(settings: Settings) -> str:
    """Return the queue that a worker with these settings serves. Raises `ConfigurationError`."""
    if settings.worker is None:
        commands = " or ".join(f"`stoker worker {kind}`" for kind in settings.kinds)
        raise ConfigurationError(f"STOKER_WORKER is not set: start {commands}")
    return queue_of(settings.worker, settings.model_name(settings.worker))


def assemble(app: Any, settings: Settings, queue: str, environment: Mapping[str, str]) -> WorkerParts:
    """Lease the device, pin the process to it, then build the other parts.

    `environment` holds the variables that every process started from here on must inherit. Raises
    `ConfigurationError`, `NoDevice` or `ModelMissing` if the settings cannot work on this machine.
    """
    device = lease(
        settings.devices,
        settings.device_locks_dir,
        free_bytes=settings.device_free_bytes,
        patience_s=settings.device_wait_s,
    )
    set_env(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", **environment)
    store, name = RedisStore(settings), _name(queue)
    announcements = Announcements(store)
    task_events = TaskEvents(app, name, LedgerReader(store))
    hooks = RunHooks.installed(task_events)
    dispatcher = Dispatcher(store, hooks.on_requeue)
    outbox = Outbox(dispatcher)
    runner = runners.make_runner(kind_of(queue), settings, device, dispatcher.ledger, outbox)
    card = _card(settings, name, queue, device, runner)
    lane = Lane(dispatcher, outbox, runner, card.name, device.label, hooks)
    return WorkerParts(
        device=device,
        card=card,
        store=store,
        registry=Registry(store),
        dispatcher=dispatcher,
        outbox=outbox,
        runner=runner,
        lane=lane,
        pool=LanePool(app, runner.slots),
        reconciler=Reconciler(lane),
        recovery=Recovery(dispatcher, announcements=announcements),
        helping=Helping(lane, queue, runner, announcements.topic("segments", queue), settings.lease_ttl_s),
        announcements=announcements,
        task_events=task_events,
    )


def _name(queue: str) -> str:
    return f"{kind_of(queue)}-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}"


def _card(settings: Settings, name: str, queue: str, device: DeviceLease, runner: Runner) -> WorkerCard:
    kind, host, pid = kind_of(queue), os.uname().nodename, os.getpid()
    return WorkerCard(
        name=name,
        kind=kind,
        host=host,
        pid=pid,
        device=device.label,
        model=settings.model_name(kind),
        engine=runner.engine_name,
        queue=queue,
        slots=runner.slots,
        running=0,
    )
