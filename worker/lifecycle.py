"""The life of a worker: pin → load → warm up → ready → drain → release."""

import hashlib
import logging
import os
import secrets
from dataclasses import asdict, replace
from typing import Any

from celery import bootsteps
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker import state
from redis.exceptions import RedisError

from worker import devices, memory, models
from worker.heartbeat import Heartbeat
from worker.jobs.errors import BadSettings, StokerError
from worker.jobs.ledger import Ledger, connect
from worker.jobs.records import ModelCard, WorkerCard, WorkerState
from worker.jobs.recovery import Recovery
from worker.jobs.registry import Registry
from worker.jobs.settings import Settings, export
from worker.lane import Lane
from worker.outbox import Outbox
from worker.runner import Runner

__all__ = ["Lifecycle"]

log = logging.getLogger(__name__)

#: About half a minute without Redis before a worker's command fails.
REDIS_RETRIES = 20
#: How long the outbox may go on sending once nothing runs any more.
FLUSH_S = 10.0


class Lifecycle(bootsteps.StartStopStep):
    """Gives the worker its lane.

    Everything that can go wrong before the first job goes wrong in `create`, before the broker is
    connected: an error here ends the process, while one in a signal handler would be swallowed.
    """

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> None:
        """Pin the device, load the model, warm it up."""
        try:
            self._create(worker)
        except (StokerError, RedisError) as error:
            raise SystemExit(f"stoker: {error}") from error

    def _create(self, worker: Any) -> None:
        refuse_other_pools(worker.pool_cls)
        settings = Settings.from_env()
        kind = settings.worker
        if kind is None:
            raise BadSettings("STOKER_WORKER is not set: start `stoker worker chat` or `stoker worker video`")
        self.device = devices.lease(settings.devices, settings.root / "locks")
        export(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        ledger = Ledger(settings, connect(settings, REDIS_RETRIES))
        self.registry = Registry(ledger)
        self.outbox = Outbox(ledger)
        self.runner = make_runner(kind, settings, self.device.torch_device, ledger, self.outbox)
        model = settings.model_name(kind)
        self.card = WorkerCard(
            name=f"{kind}-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}",
            kind=kind,
            host=os.uname().nodename,
            pid=os.getpid(),
            device=self.device.label,
            model=model,
            engine=self.runner.engine_name,
            queue=f"{kind}.{model}",
            slots=self.runner.slots,
            running=0,
        )
        self.lane = Lane(worker.app, ledger, self.outbox, self.runner, self.card.name, self.device.label)
        self.heartbeat = Heartbeat(self.registry, self._current_card)
        self.recovery = Recovery(ledger)
        self._warm_up(worker)

    def _warm_up(self, worker: Any) -> None:
        self.heartbeat.start()
        self.outbox.start()
        self.runner.start(self._on_broken)
        prompt = self.runner.prompt
        digest = hashlib.sha256(prompt.encode()).hexdigest() if prompt else None
        card = self.card
        self.registry.publish_model(
            ModelCard(card.model, card.kind, card.queue, self.runner.context_length, digest), prompt
        )
        worker.lane = self.lane
        worker.max_concurrency = self.runner.slots  # the hub fetches a message only when a slot is free
        log.info("%s is warm on %s: %s, %d at once", card.name, card.device, card.model, card.slots)

    def start(self, worker: Any) -> None:
        """Ready: the consumer connects next."""
        self._show("ready")
        self.recovery.start()

    def stop(self, worker: Any) -> None:
        """Drain: finish what runs, hand back what does not end in time, let go."""
        settings = self.registry.ledger.settings
        self._show("draining")
        self.recovery.stop()
        if not self.lane.wait_idle(settings.drain_s):
            log.warning("%d jobs did not end in %.0f s", self.lane.running, settings.drain_s)
        self._release()

    def terminate(self, worker: Any) -> None:
        """Hand back what runs and let go, at once."""
        self.recovery.stop()
        self._release()

    def _release(self) -> None:
        try:
            self.lane.hand_back()
        except RedisError as error:
            log.warning("jobs will come back when the lease lapses: %s", error)
        self.runner.stop()
        self.outbox.stop(FLUSH_S)
        self.heartbeat.stop()
        self.device.release()

    def _show(self, new: WorkerState) -> None:
        self.card = replace(self.card, state=new)
        self.heartbeat.beat()

    def _current_card(self) -> WorkerCard:
        used = asdict(memory.snapshot(self.device.torch_device))
        return replace(self.card, running=self.lane.running, memory=used)

    def _on_broken(self, error: BaseException) -> None:
        """A worker without an engine must not take jobs: end, so that a supervisor starts another."""
        log.critical("the engine is broken, the worker ends", exc_info=error)
        vars(state)["should_terminate"] = 1  # the hub ends with this exit code
        self.lane.on_free()  # wakes the hub


def refuse_other_pools(pool: type) -> None:
    """Raise `BadSettings` for any pool but solo."""
    if issubclass(pool, SoloPool):
        return
    name = pool.__module__.rsplit(".", 1)[-1]
    raise BadSettings(
        f"--pool {name} is refused: a GPU worker is one process with one warm model. CUDA cannot be"
        " re-initialised in a forked subprocess (prefork), and threads and greenlets would share one"
        " engine without its scheduler. Use --pool solo: its lane runs many jobs at once."
    )


def make_runner(kind: str, settings: Settings, torch_device: str, ledger: Ledger, outbox: Outbox) -> Runner:
    """The runner for the kind of job; imports only that kind's code."""
    if kind == "video":
        from worker.video.pipeline import VideoPipeline
        from worker.video.runner import VideoRunner

        weights = models.resolve(settings.models_dir, settings.video_model)
        pipeline = VideoPipeline(
            weights,
            device=torch_device,
            batch_size=settings.batch_size,
            model=settings.model_name("video"),
            max_pixels=settings.max_pixels,
        )
        return VideoRunner(pipeline, settings)
    from worker.chat.runner import ChatRunner
    from worker.chat.transformers_engine import TransformersEngine

    engine = TransformersEngine(
        models.resolve(settings.models_dir, settings.chat_model),
        slots=settings.slots,
        context_length=settings.context_length,
        device=torch_device,
    )
    return ChatRunner(engine, settings.engine, ledger, outbox)
