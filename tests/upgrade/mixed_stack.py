"""A stack whose API, chat worker and video worker each run one of two releases."""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Literal, Self

import httpx
from redis.exceptions import RedisError

from tests.support.stack import eventually
from tests.upgrade.releases import Release
from webapi.local.log_files import tail
from worker.jobs.cards import WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings

__all__ = ["MixedStack", "Part"]

Part = Literal["web", "chat", "video"]
#: A job with fewer events has just begun.
YOUNG = 6
#: Time limit for a process to end.
STOP_S = 30.0


class MixedStack:
    """The API on the settings' port, a chat worker and a video worker, with scripted models.

    The test holds the API's socket, so requests that come between two API processes wait for the next one.
    """

    def __init__(self, settings: Settings, release: Release) -> None:
        self.settings = settings
        #: The release that each part runs.
        self.releases: dict[Part, Release] = dict.fromkeys(("web", "chat", "video"), release)
        #: The release of each worker that was ready, by its name.
        self.release_of: dict[str, Release] = {}
        #: The process of each part, and all processes.
        self._processes: dict[Part, subprocess.Popen[bytes]] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._store = RedisStore(settings)
        self._registry = Registry(self._store)
        self._ledger = Ledger(self._store)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", self.settings.port)))
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as gunicorn does with its own
            self._socket = listener.fileno()
            stack.callback(self._store.close)
            stack.callback(self._kill)
            for part in self.releases:
                self._start(part)
            for part in self.releases:
                self._wait_until_ready(part)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                for part in ("chat", "video", "web"):
                    self._end(self._processes[part])

    def replace(self, parts: Sequence[Part], release: Release) -> None:
        """Have the parts run this release.

        A worker takes jobs until its successor is ready. It then ends soon after the start of a job, which it
        hands over if its time to drain is too short. The API ends before its successor starts.
        """
        old = {part: self._processes[part] for part in parts}
        if "web" in old:
            self._end(old.pop("web"))
        for part in parts:
            self.releases[part] = release
            self._start(part)
        for part in parts:
            self._wait_until_ready(part)
        for part, process in old.items():
            eventually(partial(self._has_begun_job, process.pid), f"a job of the old {part} worker")
            self._end(process)

    def _start(self, part: Part) -> None:
        home, release = self.settings.home_dir, self.releases[part]
        settings = self.settings if part == "web" else self.settings.replace(worker=part, devices="cpu")
        command = [sys.executable, "-m", "tests.support.launch", part]
        if part == "web":
            command.append(f"fd://{self._socket}")
        with (home / f"{part}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=home,  # Python and gunicorn look here for modules before the PYTHONPATH
                env=release.env | settings.to_env(),
                stdout=log,
                stderr=log,
                pass_fds=[self._socket],
                start_new_session=True,
            )
        self._processes[part] = process
        self._started.append(process)

    def _wait_until_ready(self, part: Part) -> None:
        process, ready = self._processes[part], self._api_ready if part == "web" else self._worker_ready

        def look() -> bool:
            assert process.poll() is None, f"{part} ended: {tail(self.settings.home_dir / f'{part}.log', 20)}"
            return ready(part)

        eventually(look, f"{part} of {self.releases[part].name}")

    def _worker_ready(self, part: Part) -> bool:
        card = self._card(self._processes[part].pid)
        if card is None or card.state != "ready":
            return False
        self.release_of[card.name] = self.releases[part]
        return True

    def _has_begun_job(self, pid: int) -> bool:
        card = self._card(pid)
        with suppress(RedisError):  # as in `_card`
            jobs = self._registry.jobs_of(card.name) if card else []
            events = self._ledger.fields("events", jobs)
            return any(int(count or YOUNG) < YOUNG for count in events)
        return False

    def _card(self, pid: int) -> WorkerCard | None:
        with suppress(RedisError):  # it may be slow on a busy machine, and is asked again
            return next((card for card in self._registry.workers() if card.pid == pid), None)
        return None

    def _api_ready(self, part: Part) -> bool:
        try:
            document = httpx.get(f"{self.settings.url}/openapi.json", timeout=STOP_S).raise_for_status()
        except httpx.TransportError:
            return False
        assert document.json()["info"]["version"] == self.releases[part].version
        return True

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Send SIGTERM, and check that the process ends well."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0, process.args

    def _kill(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
