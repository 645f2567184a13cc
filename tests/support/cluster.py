"""The cluster under test: Redis, API and workers, each restarted when it ends, as a supervisor would."""

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

from tests.support.sentinel import SentinelGroup
from tests.support.stack import eventually, free_port
from webapi.local.commands import web_argv, worker_argv
from webapi.local.log_files import tail
from webapi.local.supervisor import spawn
from webapi.local.valkey import valkey_argv, valkey_url
from worker.jobs.cards import WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env

__all__ = ["RESTART_DELAY_S", "Cluster", "ManagedProcess"]

#: Time limit for a process to hand back its jobs and end. A process that takes longer hangs.
STOP_S = 60.0
#: Time limit for children to end after their parent: gunicorn does not wait for those that it kills.
CHILDREN_END_S = 10.0
#: Exit codes of drains and kills. A second SIGTERM may come when the process has removed its handlers.
EXPECTED_EXIT_CODES = (0, -signal.SIGKILL, -signal.SIGTERM)
#: Seconds between the end of a process and its restart.
RESTART_DELAY_S = 0.2


class ManagedProcess:
    """A command whose process is started again whenever it ends. Signals go to the process that runs now."""

    def __init__(self, name: str, argv: Callable[[], Sequence[str]], settings: Settings) -> None:
        self.name = name
        #: Exit codes of the processes that have ended.
        self.exit_codes: list[int] = []
        self.restart_delay_s = RESTART_DELAY_S
        #: While it is not set, the process stays away.
        self.may_restart = threading.Event()
        self.may_restart.set()
        self._argv = argv
        self._env = child_env(settings) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._log = settings.home_dir / f"{name}.log"
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._restart_loop, name=f"restart-{name}")
        self._spawn()
        self._thread.start()

    @property
    def pid(self) -> int:
        """The pid of the process that runs, or ran last."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the whole process group, as a container runtime does. Ignore that none runs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def log_tail(self) -> str:
        """Return the end of the process' log."""
        return tail(self._log, 5)

    def stop(self) -> str:
        """Drain the process and restart it no more. Return what went wrong, or an empty string."""
        with self._lock:
            self._closing.set()
        self.signal(signal.SIGCONT)
        self._process.terminate()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            self.signal(signal.SIGKILL)
            self._thread.join()
            return "it had to be killed"
        try:
            eventually(self._group_is_gone, "the end of its children", CHILDREN_END_S)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return "it left processes behind"
        return f"it ended with {self.exit_codes[-1]}" if self.exit_codes[-1] else ""

    def _group_is_gone(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = spawn(self._argv(), self._env, log)

    def _restart_loop(self) -> None:
        while True:
            self.exit_codes.append(self._process.wait())
            self._closing.wait(self.restart_delay_s)
            while not self.may_restart.wait(0.1) and not self._closing.is_set():
                pass
            with self._lock:
                if self._closing.is_set():
                    return
                self._spawn()


class Cluster:
    """Redis, API, two chat workers and `video_workers`, or those of the settings' kinds.

    The end of the context waits until all workers are ready, and drains all processes.

    Redis is one server, or with `sentinels` a primary, two replicas and three Sentinels.

    Afterwards two attributes hold what went wrong, by process: `unexpected_exits` has the exit codes that no
    fault explains, and `stop_errors` says what went wrong when the processes were stopped.

    One server runs with the arguments of `stoker up` and with `appendfsync always`. It is killed too, and
    must not lose a job that it has accepted. With the default, `everysec`, it may lose jobs of the last
    second.
    """

    def __init__(
        self, settings: Settings, app: str, *, sentinels: bool = False, video_workers: int = 1
    ) -> None:
        settings.home_dir.mkdir(parents=True, exist_ok=True)
        port, data = free_port(), settings.home_dir / "valkey"
        socket = data / "valkey.sock"
        self.group = SentinelGroup(data) if sentinels else None
        url = self.group.url if self.group else valkey_url(socket)
        self.settings = settings.replace(port=port, url=f"http://127.0.0.1:{port}", redis_url=url)
        self._app = app
        self._video_workers = video_workers
        one_server = {"redis": [*valkey_argv(socket, data), "--appendfsync", "always"]}
        self._redis_argv = {str(p): a for p, a in self.group.argv.items()} if self.group else one_server

    def __enter__(self) -> Self:
        settings = self.settings
        self.ledger = Ledger(RedisStore(settings))
        #: The servers, and the Sentinels, by name: "redis", or their ports.
        self.redis_processes = {
            name: ManagedProcess(name, lambda argv=argv: argv, settings)  # type: ignore[misc]
            for name, argv in self._redis_argv.items()
        }
        if self.group:
            eventually(self.group.is_healthy, "a primary with two replicas")
        self.web = ManagedProcess("web", lambda: web_argv(settings), settings)
        kinds = {"chat-1": "chat", "chat-2": "chat"}
        kinds |= {f"video-{number + 1}": "video" for number in range(self._video_workers)}
        self.workers = {
            name: self._start_worker(name, kind) for name, kind in kinds.items() if kind in settings.kinds
        }
        try:
            eventually(self._is_ready, "a ready cluster")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:  # a worker that only just starts would die of the signal to stop
                self.wait_for_workers()
            self.unexpected_exits = {
                process.name: codes
                for process in self._processes()
                if (codes := [code for code in process.exit_codes if code not in EXPECTED_EXIT_CODES])
            }
        finally:
            self._stop()

    def _start_worker(self, name: str, kind: str) -> ManagedProcess:
        settings = self.settings.replace(worker=kind, devices="cpu")

        def argv() -> list[str]:
            return [self._app if part == "worker.app" else part for part in worker_argv(kind, settings)]

        return ManagedProcess(name, argv, settings)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.settings.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def cards(self) -> Sequence[WorkerCard]:
        """Return the cards of the workers that Redis knows."""
        return Registry(self.ledger.store).workers()

    def wait_for_workers(self) -> None:
        """Wait until all workers of the cluster are ready."""

        def ready() -> bool:
            if not self.redis_answers():
                return False
            ready_pids = {card.pid for card in self.cards() if card.state == "ready"}
            return ready_pids >= {worker.pid for worker in self.workers.values()}

        eventually(ready, "all workers")

    def redis_answers(self) -> bool:
        """Return whether Redis runs and has loaded its data."""
        try:
            return bool(self.ledger.store.client.ping())
        except RedisError:
            return False

    def _processes(self) -> list[ManagedProcess]:
        """Return the processes in the order of their stop: workers first, which hand back jobs to Redis."""
        return [*self.workers.values(), self.web, *self.redis_processes.values()]

    def _stop(self) -> None:
        self.stop_errors = {process.name: error for process in self._processes() if (error := process.stop())}
        self.ledger.store.close()
