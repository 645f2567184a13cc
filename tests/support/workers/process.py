"""A worker process with a scripted engine, started by Celery's own command line."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.stack import eventually
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, validate

__all__ = ["QUEUE", "scripted_settings", "starting", "submit_scripted", "working"]

QUEUE = "chat.scripted"
CELERY = [sys.executable, "-m", "celery", "-A", "tests.support.workers.unruly", "worker", "--pool", "solo"]
CELERY += ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "INFO"]
WAIT_S = 30.0


def scripted_settings(settings: Settings) -> Settings:
    """Return the settings of a scripted chat worker with a short lease."""
    return settings.replace(worker="chat", devices="cpu", chat_model="scripted", lease_ttl_s=2, drain_s=0)


@contextmanager
def starting(settings: Settings, *prefix: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a worker. It writes to the file `log` in the home folder."""
    with (settings.home_dir / "log").open("ab") as log:
        env = child_env(settings) | environment
        process = subprocess.Popen([*prefix, *CELERY], env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def working(settings: Settings, *prefix: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a worker, and wait until it is ready."""
    with starting(settings, *prefix, **environment) as process:
        store = RedisStore(settings)
        try:
            states = Registry(store).workers
            eventually(lambda: [card.state for card in states()] == ["ready"], "a ready worker", WAIT_S)
            yield process
        finally:
            store.close()


def submit_scripted(ledger: Ledger, job_id: str, queue: str = QUEUE, **body: Any) -> None:
    """Submit a chat whose prompt is `content`, and send its message even if no slot is free."""
    content = body.pop("content", "long")
    message: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "max_tokens": 2}
    submitted = ledger.submit(job_id, queue, validate(ChatJob, message | body))
    if job_id not in submitted.dispatched:
        Queues(ledger.store).send_again(job_id)
