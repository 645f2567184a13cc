"""The life cycle of a worker: pin the device, load, warm up, get ready, drain, release."""

import gc
import hashlib
import logging
import os
import signal
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

from worker.devices import memory
from worker.jobs.cards import ModelCard, WorkerCard, WorkerState
from worker.jobs.connection.refusals import until_redis_answers
from worker.jobs.home import protect_home
from worker.jobs.logs import context
from worker.jobs.settings import Settings
from worker.jobs.start_errors import EXPECTED, sentence
from worker.lane.pool_check import require_solo_pool
from worker.lane.queue_binding import consume_only
from worker.process.assemble import assemble, queue_of_worker
from worker.process.failover import Failover
from worker.process.heartbeat import Heartbeat
from worker.process.reaper import Reaper
from worker.process.shutdown_signals import ShutdownSignals

__all__ = ["Lifecycle"]

log = logging.getLogger(__name__)

#: How often a draining worker checks for a second signal, in seconds.
SIGNAL_POLL_S = 0.2
#: How long a thread may keep the interpreter from others, in seconds: a tenth of Python's default. With the
#: default, the hub and every starting job would wait that long several times, whenever the engine's thread or
#: the outbox has much to do.
SWITCH_S = 0.0005
#: How many new objects start a garbage collection. Hundreds of chats hold some thousands of objects, which
#: are freed without it. With Python's default of 700, collections would take a twentieth of the time.
GC_OBJECTS = 20_000


class Lifecycle(bootsteps.StartStopStep):
    """The Celery bootstep that gives a solo worker its lane, and that releases everything at the end.

    All checks, the lease of the device and the loading of the model belong in `create`, before the broker is
    connected. An error there ends the process. Celery would swallow an error in one of its signal handlers.
    """

    #: How long handed-back runs, and then the heartbeat, may take to stop. A thread that is still in native
    #: code when Python ends would abort the process.
    threads_stop_s = 5.0
    #: How long the outbox may go on sending after the last run.
    outbox_flush_s = 10.0
    #: How long the runner may take to release the model. On a device that hangs it never ends.
    runner_stop_s = 15.0

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> None:
        """Pin the device, load the model and warm it up. If it cannot, log why and raise SystemExit."""
        sys.setswitchinterval(SWITCH_S)
        self.reaper = Reaper()
        self.shutdown_signals = ShutdownSignals(before_exit=self.reaper.release)
        try:
            self._create(worker)
        except BaseException as error:
            self.reaper.release()
            if isinstance(error, EXPECTED):
                log.debug("the worker cannot start", exc_info=error)
                log.critical("stoker: %s", sentence(error))
                raise SystemExit(1) from error
            raise

    def _create(self, worker: Any) -> None:
        require_solo_pool(worker)
        settings = self.settings = Settings.from_env()
        protect_home(settings.home_dir)
        queue = queue_of_worker(settings)
        consume_only(worker, queue)
        self.parts = assemble(worker.app, settings, queue, self.reaper.environment)
        self.card = self.parts.card
        context.set_worker(self.card.name)
        worker.hostname = self.card.name  # Celery's commands and monitors show the name that the API shows
        self.parts.task_events.install()
        self.failover = Failover(self.parts.store.replicas, self.parts.outbox, self._on_new_server)
        self.heartbeat = Heartbeat(self._heartbeat, settings.lease_ttl_s)
        self.broken = self.drains = False
        self._warm_up(worker)

    def _warm_up(self, worker: Any) -> None:
        until_redis_answers(self.heartbeat.start, "the worker waits", starting=True)
        self.parts.outbox.start()
        began = time.monotonic()
        self.parts.runner.start(partial(self._on_engine_failure, worker))
        self.card = replace(self.card, warmup_s=round(time.monotonic() - began, 3))
        try:
            until_redis_answers(self._publish_model, "the model is not published yet", starting=True)
        except RedisError:
            self.parts.runner.stop()  # otherwise its thread would keep the process alive
            raise
        _ = worker.app.backend  # or each first job of a burst would make it, which reads many files
        gc.collect()
        gc.freeze()  # later collections can skip the objects of the loaded model
        gc.set_threshold(GC_OBJECTS)
        worker.lane, worker.lane_pool = self.parts.lane, self.parts.pool
        worker.max_concurrency = self.parts.runner.slots  # the hub fetches a message only when a slot is free
        self.parts.lane.take_slots = self.parts.pool.take_slots
        self.parts.pool.on_limit = partial(setattr, worker, "max_concurrency")
        card = self.card
        log.info("%s is warm on %s: %s, %d at once", card.name, card.device, card.model, card.slots)

    def _publish_model(self) -> None:
        card, runner = self.card, self.parts.runner
        prompt = runner.prompt
        digest = hashlib.sha256(prompt.encode()).hexdigest() if prompt else None
        sampling = None if runner.sampling is None else tuple(sorted(runner.sampling))
        facts = runner.context_length, digest, sampling, runner.parameters, tuple(runner.adapters)
        self.parts.registry.publish_model(ModelCard(card.model, card.kind, card.queue, *facts), prompt)

    def start(self, worker: Any) -> None:
        """Show the worker as ready. Celery connects the consumer next."""
        self.shutdown_signals.install()
        self._set_state("ready")
        self.parts.announcements.start()
        self.parts.recovery.start()
        self.parts.helping.start()

    def stop(self, worker: Any) -> None:
        """Drain, then release everything.

        Running jobs may finish until `drain_s` has passed, a second signal comes, or the engine breaks. The
        lane hands the others back.
        """
        self._set_state("draining")
        self.parts.lane.drain()
        self.parts.pool.stop_fetching()  # or a message that comes now would wait for the end of the drain
        self.parts.helping.stop(0)
        try:
            end = time.monotonic() + self.settings.drain_s
            while time.monotonic() < end and not self.shutdown_signals.forced and not self.broken:
                if self.parts.lane.wait_idle(SIGNAL_POLL_S):
                    break
        finally:
            self._release(worker)

    def terminate(self, worker: Any) -> None:
        """Hand the running jobs back and release everything, at once."""
        self._release(worker)

    def _release(self, worker: Any) -> None:
        with ExitStack() as last:  # in reverse order; each step is taken even if others raise
            last.callback(self.reaper.release)
            last.callback(self.parts.device.release)
            last.callback(self.parts.task_events.stop)
            last.callback(self.heartbeat.stop, self.threads_stop_s)
            last.callback(self.parts.outbox.stop, self.outbox_flush_s)
            last.callback(self._stop_runner, worker)
            self.parts.helping.stop(self.threads_stop_s)
            self.parts.recovery.stop()
            # Unlike a drain, a lost engine counts against its jobs, because one of them may have broken it.
            self.parts.lane.hand_back("engine_lost" if self.broken else "drain")
            self.parts.lane.wait_idle(self.threads_stop_s)
        with suppress(RedisError):
            self.parts.registry.release(self.card.name)

    def _stop_runner(self, worker: Any) -> None:
        stopping = threading.Thread(target=self.parts.runner.stop, name="stop", daemon=True)
        stopping.start()
        stopping.join(self.runner_stop_s)
        if stopping.is_alive():
            log.error("%s hangs: the worker ends without waiting for it", self.parts.device.label)
            worker.exitcode = EX_FAILURE

    def _set_state(self, new: WorkerState) -> None:
        self.card = replace(self.card, state=new)
        self.heartbeat.wake()

    def _heartbeat(self) -> None:
        renewed = self.parts.registry.renew(self._current_card())
        if renewed.drain and not self.drains:
            self.drains = True
            log.warning("%s drains, as an administrator has asked", self.card.name)
            os.kill(os.getpid(), signal.SIGTERM)
        self.failover.beat(renewed.server)
        self.parts.reconciler.reconcile(renewed.jobs)

    def _current_card(self) -> WorkerCard:
        """Return the card with the readings of this moment."""
        device = self.parts.device
        return replace(
            self.card,
            running=self.parts.lane.running,
            memory=asdict(memory.snapshot(device.torch_device)),
            gpus=memory.read_gpus(device.torch_device, device.label),
            engine_stats=self.parts.runner.engine_stats,
        )

    def _on_new_server(self) -> None:
        """Publish the model again, and make the hub connect again: a server that hangs never disconnects."""
        self._publish_model()
        self.parts.pool.reconnect()

    def _on_engine_failure(self, worker: Any, error: BaseException) -> None:
        """End the worker: without an engine it must not take jobs. A supervisor then starts another."""
        if self.broken:  # if an engine hangs, each of its chats calls this
            return
        self.broken = True
        log.critical("the engine is broken, the worker ends", exc_info=error)
        self.parts.lane.drain()
        worker.exitcode = EX_FAILURE
        vars(state)["should_terminate"] = True  # Celery's hub checks it
        self.parts.pool.on_slot_free()  # this wakes the hub
