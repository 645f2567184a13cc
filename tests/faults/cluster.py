"""The cluster under fire: Redis, API and workers, each started again when it ends, as a supervisor would."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx
from redis.exceptions import RedisError

from tests.support.stack import eventually, free_port
from webapi.local.commands import valkey_argv, web_argv, worker_argv
from webapi.local.supervisor import spawn, tail
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings, child_env

__all__ = ["Cluster", "Kept"]

#: For what runs to end and for all to be let go; a process that takes longer hangs.
STOP_S = 60.0
#: Exit codes of drains and kills; a second SIGTERM may come when the process has put its handlers away.
ASKED_FOR = (0, -signal.SIGKILL, -signal.SIGTERM)
#: Before a process that ended is started again.
AGAIN_S = 0.2


class Kept:
    """One process that is kept running; signals go to the one that runs now."""

    def __init__(self, name: str, argv: Callable[[], Sequence[str]], settings: Settings) -> None:
        self.name = name
        #: Exit codes of the processes so far.
        self.codes: list[int] = []
        self.again_s = AGAIN_S
        self._argv = argv
        self._env = child_env(settings) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._log = settings.home_dir / f"{name}.log"
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}")
        self._spawn()
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process that runs, or ran last."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """To its whole group, as when a container is stopped; nothing while it is down."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def last_words(self) -> str:
        """The end of its log."""
        return tail(self._log, 5)

    def stop(self) -> str:
        """Drain it; what was wrong with its end, if anything."""
        with self._lock:
            self._closing.set()
        self.signal(signal.SIGCONT)
        self._process.terminate()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            self.signal(signal.SIGKILL)
            self._thread.join()
            return "it had to be killed"
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
            return "it left processes behind"
        return f"it ended with {self.codes[-1]}" if self.codes[-1] else ""

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = spawn(self._argv(), self._env, log)

    def _keep(self) -> None:
        while True:
            self.codes.append(self._process.wait())
            self._closing.wait(self.again_s)
            with self._lock:
                if self._closing.is_set():
                    return
                self._spawn()


class Cluster:
    """Redis, API, two chat workers and a video worker; a context manager that drains them all.

    Afterwards `crashes` are the exit codes that no fault explains, and `ends` says what was wrong when all
    were stopped, by process.

    Redis runs as `stoker up` runs it but for `appendfsync always`: it is killed too, and what it has
    accepted must not be lost. (With the default, `everysec`, a job accepted in the last second may be.)
    """

    def __init__(self, settings: Settings, app: str) -> None:
        port, redis_port = free_port(), free_port()
        url, redis_url = f"http://127.0.0.1:{port}", f"redis://127.0.0.1:{redis_port}/0"
        self.settings = settings.replace(port=port, url=url, redis_url=redis_url)
        self.settings.home_dir.mkdir(parents=True, exist_ok=True)
        self._app = app
        self._redis_argv = [*valkey_argv(redis_port, settings.home_dir / "valkey"), "--appendfsync", "always"]

    def __enter__(self) -> Self:
        settings = self.settings
        self.ledger = Ledger(settings)
        self.redis = Kept("redis", lambda: self._redis_argv, settings)
        self.web = Kept("web", lambda: web_argv(settings), settings)
        kinds = {"chat-1": "chat", "chat-2": "chat", "video-1": "video"}
        self.workers = {name: self._worker(name, kind) for name, kind in kinds.items()}
        try:
            eventually(self._ready, "a ready cluster")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.crashes = {
            kept.name: codes
            for kept in self._all()
            if (codes := [code for code in kept.codes if code not in ASKED_FOR])
        }
        self._stop()

    def _worker(self, name: str, kind: str) -> Kept:
        settings = self.settings.replace(worker=kind, devices="cpu")

        def argv() -> list[str]:
            return [self._app if part == "worker.app" else part for part in worker_argv(kind, settings)]

        return Kept(name, argv, settings)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.settings.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def redis_answers(self) -> bool:
        """Whether Redis is there, and has loaded its data."""
        try:
            return bool(self.ledger.redis.ping())
        except RedisError:
            return False

    def _all(self) -> list[Kept]:
        return [*self.workers.values(), self.web, self.redis]

    def _stop(self) -> None:
        """Workers first: they hand back to Redis."""
        self.ends = {kept.name: end for kept in self._all() if (end := kept.stop())}
        self.ledger.redis.close()
