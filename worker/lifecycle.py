"""The life of a worker: pin → load → warm up → ready → drain → release."""

import gc
import hashlib
import logging
import os
import secrets
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from celery import bootsteps
from celery.platforms import EX_FAILURE
from celery.worker import state
from redis.exceptions import RedisError

from worker import runners
from worker.devices import memory
from worker.devices.lease import lease
from worker.forks import refuse_forks
from worker.heartbeat import Heartbeat
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.errors import BadSettings, StokerError
from worker.jobs.kinds import queue_of
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import ModelCard, WorkerCard, WorkerState
from worker.jobs.settings import Settings, export
from worker.lane import Lane
from worker.orders import Orders
from worker.runs.outbox import Outbox
from worker.subscription import subscribe
from worker.warden import Warden

__all__ = ["Lifecycle"]

log = logging.getLogger(__name__)

#: How often a draining worker looks for a second signal.
SIGNAL_POLL_S = 0.2
#: How long a thread may keep the interpreter from others: a tenth of the default, for which the hub and every
#: starting job would wait, several times each, whenever the engine's thread or the outbox has much to do.
SWITCH_S = 0.0005
#: How many new objects there must be before the garbage collector looks through them. Hundreds of chats hold
#: some thousands, which go by themselves: with the default of 700 it would take a twentieth of the time.
GC_OBJECTS = 20_000
#: For runs that were handed back, and the heartbeat, to stop: what is still in native code when Python ends
#: aborts the process.
LET_GO_S = 5.0
#: How long the outbox may go on sending once nothing runs any more.
FLUSH_S = 10.0
#: How long letting go of the model may take: a device that hangs takes for ever.
STOP_S = 15.0


class Lifecycle(bootsteps.StartStopStep):
    """Gives the worker its lane.

    Everything that can go wrong before the first job goes wrong in `create`, before the broker is
    connected: an error here ends the process, while one in a signal handler would be swallowed.
    """

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> None:
        """Pin the device, load the model, warm it up."""
        sys.setswitchinterval(SWITCH_S)
        if not log.isEnabledFor(logging.DEBUG):  # a line costs a third of a claim; the ledger has all
            for module in ("worker.strategy", "app.trace"):
                logging.getLogger(f"celery.{module}").setLevel(logging.WARNING)
        self.warden = Warden()
        self.orders = Orders(leave=self.warden.dismiss)
        try:
            self._create(worker)
        except BaseException as error:
            self.warden.dismiss()
            if isinstance(error, StokerError | RedisError):
                raise SystemExit(f"stoker: {error}") from error
            raise

    def _create(self, worker: Any) -> None:
        refuse_forks(worker)
        settings = Settings.from_env()
        kind = settings.worker
        if kind is None:
            raise BadSettings("STOKER_WORKER is not set: start `stoker worker chat` or `stoker worker video`")
        model = settings.model_name(kind)
        queue = queue_of(kind, model)
        subscribe(worker, queue)
        self.device = lease(
            settings.devices,
            settings.root / "locks",
            free_bytes=settings.device_free_bytes,
            patience_s=settings.device_wait_s,
        )
        export(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", **self.warden.environment)
        ledger = Ledger(settings)
        self.registry = Registry(ledger)
        self.outbox = Outbox(ledger)
        self.runner = runners.make_runner(kind, settings, self.device, ledger, self.outbox)
        self.card = WorkerCard(
            name=f"{kind}-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}",
            kind=kind,
            host=os.uname().nodename,
            pid=os.getpid(),
            device=self.device.label,
            model=model,
            engine=self.runner.engine_name,
            queue=queue,
            slots=self.runner.slots,
            running=0,
        )
        self.lane = Lane(worker.app, ledger, self.outbox, self.runner, self.card.name, self.device.label)
        self.heartbeat = Heartbeat(self._beat, settings.lease_ttl_s)
        self.recovery = Recovery(ledger)
        self.broken = False
        self._warm_up(worker)

    def _warm_up(self, worker: Any) -> None:
        self.heartbeat.start()
        self.outbox.start()
        self.runner.start(partial(self._on_broken, worker))
        try:
            self._publish_model()
        except RedisError:
            self.runner.stop()  # its thread would keep the process alive
            raise
        gc.collect()
        gc.freeze()  # what a loaded model is made of need not be looked through again
        gc.set_threshold(GC_OBJECTS)
        worker.lane = self.lane
        worker.max_concurrency = self.runner.slots  # the hub fetches a message only when a slot is free
        card = self.card
        log.info("%s is warm on %s: %s, %d at once", card.name, card.device, card.model, card.slots)

    def _publish_model(self) -> None:
        prompt = self.runner.prompt
        digest = hashlib.sha256(prompt.encode()).hexdigest() if prompt else None
        card = self.card
        self.registry.publish_model(
            ModelCard(card.model, card.kind, card.queue, self.runner.context_length, digest), prompt
        )

    def start(self, worker: Any) -> None:
        """Ready: the consumer connects next."""
        self.orders.listen()
        self._show("ready")
        self.recovery.start()

    def stop(self, worker: Any) -> None:
        """Drain: finish what runs, hand back what does not end in time or before a second signal; let go."""
        self._show("draining")
        self.lane.drain()
        try:
            end = time.monotonic() + self.registry.ledger.settings.drain_s
            while time.monotonic() < end and not self.orders.hurry and not self.broken:
                if self.lane.wait_idle(SIGNAL_POLL_S):
                    break
        finally:
            self._release(worker)

    def terminate(self, worker: Any) -> None:
        """Hand back what runs and let go, at once."""
        self._release(worker)

    def _release(self, worker: Any) -> None:
        with ExitStack() as last:  # every step is taken, whatever the others raise
            last.callback(self.warden.dismiss)
            last.callback(self.device.release)
            last.callback(self.heartbeat.stop, LET_GO_S)
            last.callback(self.outbox.stop, FLUSH_S)
            last.callback(self._stop_runner, worker)
            self.recovery.stop()
            # Unlike a drain, a lost engine counts against its jobs: one may have broken it.
            self.lane.hand_back("engine_lost" if self.broken else "drain")
            self.lane.wait_idle(LET_GO_S)
        with suppress(RedisError):
            self.registry.release(self.card.name)

    def _stop_runner(self, worker: Any) -> None:
        stopping = threading.Thread(target=self.runner.stop, name="stop", daemon=True)
        stopping.start()
        stopping.join(STOP_S)
        if stopping.is_alive():
            log.error("%s hangs and is not waited for: the worker ends all the same", self.device.label)
            worker.exitcode = EX_FAILURE

    def _show(self, new: WorkerState) -> None:
        self.card = replace(self.card, state=new)
        self.heartbeat.wake()

    def _beat(self) -> None:
        used = asdict(memory.snapshot(self.device.torch_device))
        self.registry.renew(replace(self.card, running=self.lane.running, memory=used))
        self.lane.heal(self.registry.jobs_of(self.card.name))

    def _on_broken(self, worker: Any, error: BaseException) -> None:
        """A worker without an engine must not take jobs: end, so that a supervisor starts another."""
        if self.broken:  # each chat of an engine that hangs says so
            return
        self.broken = True
        log.critical("the engine is broken, the worker ends", exc_info=error)
        self.lane.drain()
        worker.exitcode = EX_FAILURE
        vars(state)["should_terminate"] = True  # seen by the hub
        self.lane.on_free()  # wakes it
