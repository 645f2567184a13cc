"""The scenario: the steps of the test in their order."""

import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import httpx

from tests.compose.flower import check_flower
from tests.compose.images import WORKER, build_images
from tests.compose.isolation import check_isolation
from tests.compose.job_check import check_all_jobs
from tests.compose.leases import check_leases
from tests.compose.project import NAME, Project
from tests.compose.traffic import Chat, Traffic
from tests.compose.videos import Videos
from tests.support.chat.prompts import PROMPTS
from tests.support.stack import eventually
from webapi.client import ApiError

__all__ = ["Scenario"]

CHATS = [Chat(prompt, 24) for prompt in PROMPTS]
#: A chat that still runs while something happens to its worker.
LONG = Chat("Tell me a long story about a lighthouse.", 120)
#: Number of clients: as many as three workers have slots.
CLIENTS = 12
#: Number of jobs over which a rate is measured.
RATE_JOBS = 24
#: CPU cores that each chat worker gets while a rate is measured. The workers stand for workers with a device
#: each, but without a limit a single one would use all cores of a small machine.
CPU_LIMIT = 0.35
#: Time limit for models to be fetched and warmed up on a small machine.
START_S = 600.0


class Scenario:
    """One run of the test, which prints a line per step. Its steps raise `AssertionError`."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._began = time.monotonic()
        #: The measured rates: number of chat workers, jobs per second.
        self._rates: list[tuple[int, float]] = []

    def run_all(self) -> None:
        """Run all steps."""
        self._print(build_images(self._project))
        self._start()
        with self._project.client(self._key) as self._client, TemporaryDirectory() as folder:
            self._traffic = Traffic(self._project, self._key)
            self._videos = Videos(self._project, self._client, Path(folder))
            self._run_references()
            self._print(check_flower(self._project, self._client))
            self._traffic.start(CLIENTS, CHATS)
            self._measure_rate(1)
            self._scale_up()
            self._measure_rate(3)
            self._kill_chat_container()
            for line in self._videos.run_with_kill():
                self._print(line)
            self._scale_down()
            self._measure_rate(1)
            self._restart_redis()
            self._replace_images()
            self._traffic.finish()
            for line in check_all_jobs(self._client, self._traffic, self._videos):
                self._print(line)
            self._stop()

    def _print(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._began:7.1f} s  {text}")

    def _start(self) -> None:
        self._project.up(chat_workers=1)
        self._print("`up` has returned; the models are fetched and verified, and the first key is made")
        key = re.search(r"sk-stoker-\S+", self._project.logs("key"))
        assert key, self._project.logs("key")
        self._key = key[0]
        with self._project.client(self._key) as client:
            eventually(client.ready, "a ready stack", START_S)
        response = httpx.get(f"{self._project.url}/v1/jobs")
        assert response.status_code == 401, response.text
        self._print("ready: 1 chat worker, 1 video worker; requests without a key get 401")
        for line in check_isolation(self._project):
            self._print(line)
        self._print(check_leases(self._project.docker, WORKER, f"{NAME}_locks"))

    def _wait_for_workers(self, count: int) -> None:
        """Wait until this many chat workers are ready and no other one is registered."""

        def ready() -> bool:
            try:
                states = [card["state"] for card in self._client.workers() if card["kind"] == "chat"]
            except ApiError:
                return False
            return states == ["ready"] * count

        eventually(ready, f"{count} chat workers", START_S)

    def _run_references(self) -> None:
        """Run each chat and the video once without faults. All later results are compared with these."""
        chats = [*CHATS, LONG]
        self._traffic.run_references(chats)
        frames = self._videos.run_reference()
        self._print(f"reference without faults: {len(chats)} chats and a video of {frames} frames")

    def _measure_rate(self, workers: int) -> None:
        self._wait_for_workers(workers)
        self._project.limit_cpus("chat-worker", CPU_LIMIT)
        self._traffic.measure_rate(workers)  # the first job of each worker does not count
        before = len(self._traffic.ended)
        rate = self._traffic.measure_rate(RATE_JOBS)
        self._project.limit_cpus("chat-worker", os.cpu_count() or 1)
        self._rates.append((workers, rate))
        jobs = sorted(self._traffic.jobs_by_host(before).values(), reverse=True)
        assert len(jobs) >= workers, f"only {len(jobs)} of {workers} workers had any of {RATE_JOBS} jobs"
        per_worker = ", ".join(map(str, jobs))
        self._print(
            f"{workers} chat worker{'s' * (workers > 1)}: {rate:.2f} jobs/s; jobs per worker: {per_worker}"
        )

    def _scale_up(self) -> None:
        self._project.up("--no-recreate", chat_workers=3)
        self._print("`--scale chat-worker=3`")
        self._wait_for_workers(3)
        self._print("3 chat workers are ready; the first one continued meanwhile")

    def _kill_chat_container(self) -> None:
        """Kill the container of a chat worker in the middle of a stream that a client reads."""
        job_id = self._traffic.start_chat(LONG)
        started = self._traffic.wait_for_event(job_id, "started")
        self._traffic.wait_for_event(job_id, "token", 10)
        host = started["worker"].split("-")[1]
        self._project.docker.run("docker", "kill", "--signal", "KILL", host)
        killed = time.monotonic()
        self._print(f"`docker kill --signal KILL` of a worker, after 10 tokens of a stream of {LONG.tokens}")
        requeued = self._traffic.wait_for_event(job_id, "requeued", after=started["n"])
        assert requeued["reason"] == "worker_lost", requeued
        self._traffic.wait_for_event(job_id, "token", after=requeued["n"])
        delay_s = time.monotonic() - killed
        self._print(f"the stream's next token came {delay_s:.1f} s later, from another container")
        self._traffic.wait_for_event(job_id, "succeeded")
        self._project.up("--no-recreate", chat_workers=3)
        self._wait_for_workers(3)
        self._print("the stream has ended; 3 chat workers again")

    def _scale_down(self) -> None:
        """Remove two of three workers while each has streams. They must hand over their jobs."""
        jobs = [self._traffic.start_chat(LONG) for _ in range(3 * 2)]
        for job_id in jobs:
            self._traffic.wait_for_event(job_id, "token")
        self._print(f"`--scale chat-worker=1`, while {len(jobs)} streams of {LONG.tokens} tokens run")
        self._project.up("--no-recreate", chat_workers=1)
        self._wait_for_workers(1)
        for job_id in jobs:
            self._traffic.wait_for_event(job_id, "succeeded")
        moved = [job_id for job_id in jobs if self._was_drained(job_id)]
        assert moved, "no stream had to move"
        self._print(f"1 chat worker; {len(moved)} of the streams moved to it, and all have ended")

    def _was_drained(self, job_id: str) -> bool:
        return any(event.get("reason") == "drain" for event in self._traffic.seen[job_id])

    def _restart_redis(self) -> None:
        job_id = self._traffic.start_chat(LONG)
        last = self._traffic.wait_for_event(job_id, "token", 10)
        self._project.compose("restart", "redis")
        self._print("Redis restarted in the middle of a stream and under load")
        self._traffic.wait_for_event(job_id, "token", after=last["n"])
        self._traffic.wait_for_event(job_id, "succeeded")
        self._traffic.measure_rate(CLIENTS)
        self._print("that stream has ended, and new jobs start and end")

    def _replace_images(self) -> None:
        """Build other images and replace all containers, as an upgrade does."""
        job_id = self._traffic.start_chat(LONG)
        self._traffic.wait_for_event(job_id, "token", 10)
        self._project.compose("build", STOKER_REVISION="two")
        before = {name: self._project.containers(name) for name in ("web", "chat-worker", "video-worker")}
        self._project.up(chat_workers=1)
        assert all(self._project.containers(name) != ids for name, ids in before.items())
        self._print("images rebuilt, and all their containers replaced by `up`, in the middle of a stream")
        self._traffic.wait_for_event(job_id, "succeeded")
        assert self._was_drained(job_id)
        self._print("that stream has ended, through another worker and another API")

    def _stop(self) -> None:
        """Check that every service is healthy, and that every container exits with 0."""
        for service in ("redis", "web", "chat-worker", "video-worker"):
            self._project.wait_until_healthy(service)
        self._print("redis, web, chat-worker and video-worker are healthy")
        codes = self._project.stop()
        assert not any(codes.values()), codes
        self._print(f"stopped: {len(codes)} containers, exit code 0 each")
        click.echo("\n| --scale | jobs/s |\n|---|---|")
        for workers, rate in self._rates:
            click.echo(f"| {workers} | {rate:.2f} |")
