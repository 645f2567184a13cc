"""The scenario: what happens to the stack, when, and what must come of every job."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import httpx

from tests.compose.leases import check_leases
from tests.compose.project import NAME, Project
from tests.compose.traffic import Chat, Traffic
from tests.support.assets import asset
from tests.support.event_checks import Expected, Flaw, check_log, check_video
from tests.support.pictures import pictures, same
from tests.support.prompts import PROMPTS
from tests.support.stack import eventually
from webapi.client import ApiError, Client

__all__ = ["Scenario"]

Json = dict[str, Any]

CHATS = [Chat(prompt, 24) for prompt in PROMPTS]
#: One that is at it while something is done to its worker.
LONG = Chat("Tell me a long story about a lighthouse.", 120)
CLIP = "carphone_pristine.mp4"
#: As many as three workers have slots; a rate is taken over so many jobs.
CLIENTS, COUNTED = 12, 24
#: Of a core, for each chat worker while a rate is taken: one alone would fill a small machine, and they are
#: to have a device each.
SHARE = 0.35
#: For images to be built and models to be fetched and warmed up, on a small machine.
START_S = 600.0
WEB, WORKER = f"{NAME}:web", f"{NAME}:worker-cpu"


class Scenario:
    """Goes through it once; prints a line for each thing that happens. Raises `AssertionError`."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._began = time.monotonic()
        self._rates: list[tuple[int, float]] = []
        self._videos: list[Sequence[Json]] = []

    def run(self) -> None:
        """All of it."""
        self._build()
        self._start()
        with self._project.client(self._key) as self._client, TemporaryDirectory() as folder:
            self._traffic = Traffic(self._project, self._key)
            self._try_out(Path(folder))
            self._traffic.start(CLIENTS, CHATS)
            self._measure(1)
            self._scale_up()
            self._measure(3)
            self._kill_a_container()
            self._kill_the_video_worker(Path(folder))
            self._scale_down()
            self._measure(1)
            self._restart_redis()
            self._rebuild()
            self._traffic.finish()
            self._account()
            self._stop()

    def _say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._began:7.1f} s  {text}")

    def _build(self) -> None:
        self._project.compose("build", STOKER_REVISION="one")
        sizes = ", ".join(f"{image} {self._project.image_mib(image)} MiB" for image in (WEB, WORKER))
        self._say(f"built: {sizes}")
        look = "import importlib.util as i, os; print(os.getuid(), i.find_spec('torch') is None)"
        for image, torch_free in ((WEB, True), (WORKER, False)):
            said = self._project.engine.run("docker", "run", "--rm", image, "python3", "-c", look).split()
            assert said == ["10001", str(torch_free)], (image, said)
            models = self._project.engine.run("docker", "run", "--rm", image, "ls", "-A", "models")
            assert not models, models

    def _start(self) -> None:
        self._project.up(chat_workers=1)
        self._say("`up` has returned; models are fetched and verified, the first key is made")
        made = re.search(r"sk-stoker-\S+", self._project.logs("key"))
        assert made, self._project.logs("key")
        self._key = made[0]
        with self._project.client(self._key) as client:
            eventually(client.ready, "a ready stack", START_S)
        without = httpx.get(f"{self._project.url}/v1/jobs")
        assert without.status_code == 401, without.text
        self._say("ready: 1 chat worker, 1 video worker; without a key it is 401")

        self._say(check_leases(self._project.engine, WORKER, f"{NAME}_locks"))

    def _ready(self, number: int) -> None:
        """Wait for so many chat workers, and no others."""

        def counted() -> bool:
            try:
                states = [card["state"] for card in self._client.workers() if card["kind"] == "chat"]
            except ApiError:
                return False
            return states == ["ready"] * number

        eventually(counted, f"{number} chat workers", START_S)

    def _try_out(self, folder: Path) -> None:
        """Each chat and the video once, undisturbed: what all others are held against."""
        jobs = {chat: self._traffic.open(chat) for chat in (*CHATS, LONG)}
        ends = {chat: self._traffic.until(job_id, "succeeded") for chat, job_id in jobs.items()}
        self._expected = {
            chat: Expected(
                end["result"]["text"], end["usage"]["completion_tokens"], end["result"]["finish_reason"]
            )
            for chat, end in ends.items()
        }
        self._undisturbed = pictures(self._video(folder / "undisturbed.mp4"))
        self._say(f"undisturbed: {len(jobs)} chats and a video of {len(self._undisturbed)} frames")

    def _video(self, result: Path) -> Path:
        job_id = self._client.submit_video(asset(CLIP), "#00b140")["id"]
        self._videos.append(list(self._client.events(job_id)))
        self._client.download(job_id, result)
        return result

    def _measure(self, workers: int) -> None:
        self._ready(workers)
        self._project.limit("chat-worker", SHARE)
        self._traffic.rate(workers)
        before = len(self._traffic.ended)
        rate = self._traffic.rate(COUNTED)
        self._project.limit("chat-worker", os.cpu_count() or 1)
        self._rates.append((workers, rate))
        shares = sorted(self._traffic.hosts(before).values(), reverse=True)
        assert len(shares) >= workers, f"only {len(shares)} of {workers} workers had any of {COUNTED} jobs"
        self._say(f"--scale {workers}: {rate:.2f} jobs/s; jobs by worker: {', '.join(map(str, shares))}")

    def _scale_up(self) -> None:
        self._project.up("--no-recreate", chat_workers=3)
        self._say("--scale chat-worker=3")
        self._ready(3)
        self._say("3 chat workers are ready; the first one went on meanwhile")

    def _kill_a_container(self) -> None:
        """SIGKILL in the middle of a stream that a client reads."""
        job_id = self._traffic.open(LONG)
        started = self._traffic.until(job_id, "started")
        self._traffic.until(job_id, "token", 10)
        host = started["worker"].split("-")[1]
        self._project.engine.run("docker", "kill", "--signal", "KILL", host)
        killed = time.monotonic()
        self._say(f"docker kill --signal KILL {host}, after 10 tokens of a stream of {LONG.tokens}")
        lost = self._traffic.until(job_id, "requeued", after=started["n"])
        assert lost["reason"] == "worker_lost", lost
        self._traffic.until(job_id, "token", after=lost["n"])
        self._say(f"its next token came {time.monotonic() - killed:.1f} s later, from another container")
        self._traffic.until(job_id, "succeeded")
        self._project.up("--no-recreate", chat_workers=3)
        self._ready(3)
        self._say("the stream has ended; 3 chat workers again")

    def _kill_the_video_worker(self, folder: Path) -> None:
        """The process itself, by SIGKILL: its container ends, and Docker starts it again."""
        [card] = [card for card in self._client.workers() if card["kind"] == "video"]
        [container] = self._project.containers("video-worker")
        job_id = self._client.submit_video(asset(CLIP), "#00b140")["id"]
        events = self._client.events(job_id)
        seen = []
        for event in events:
            seen.append(event)
            if event["type"] == "batch" and event["index"] == 3:
                break
        kill = f"import os, signal; os.kill({card['pid']}, signal.SIGKILL)"
        self._project.inside("video-worker", "python3", "-c", kill)
        self._say("the video worker's process was killed after 4 of 8 batches")
        seen += events
        self._videos.append(seen)
        assert [event["type"] for event in seen].count("requeued") == 1, seen
        result = folder / "resumed.mp4"
        self._client.download(job_id, result)
        assert same(pictures(result), self._undisturbed)
        restarts = self._project.inspect(container)["RestartCount"]
        assert restarts == 1, restarts
        self._say("its container was started again, and the video went on: the same frames")

    def _scale_down(self) -> None:
        """While a stream is at each worker, two of which have to hand it over."""
        jobs = [self._traffic.open(LONG) for _ in range(3 * 2)]
        for job_id in jobs:
            self._traffic.until(job_id, "token")
        self._say(f"--scale chat-worker=1, while {len(jobs)} streams of {LONG.tokens} tokens go on")
        self._project.up("--no-recreate", chat_workers=1)
        self._ready(1)
        for job_id in jobs:
            self._traffic.until(job_id, "succeeded")
        moved = [job_id for job_id in jobs if self._requeued(job_id, "drain")]
        assert moved, "no stream had to move"
        self._say(f"1 chat worker; {len(moved)} of the streams went over to it, and all have ended")

    def _requeued(self, job_id: str, reason: str) -> int:
        return sum(event.get("reason") == reason for event in self._traffic.seen[job_id])

    def _restart_redis(self) -> None:
        job_id = self._traffic.open(LONG)
        last = self._traffic.until(job_id, "token", 10)
        self._project.compose("restart", "redis")
        self._say("redis has been restarted, in the middle of a stream and under load")
        self._traffic.until(job_id, "token", after=last["n"])
        self._traffic.until(job_id, "succeeded")
        self._traffic.rate(CLIENTS)
        self._say("that stream has ended, and new jobs come and go")

    def _rebuild(self) -> None:
        """A rolling restart: other images, the same jobs."""
        job_id = self._traffic.open(LONG)
        self._traffic.until(job_id, "token", 10)
        self._project.compose("build", STOKER_REVISION="two")
        before = {name: self._project.containers(name) for name in ("web", "chat-worker", "video-worker")}
        self._project.up(chat_workers=1)
        assert all(self._project.containers(name) != ids for name, ids in before.items())
        self._say("images rebuilt, and all containers of them replaced by `up`, in the middle of a stream")
        self._traffic.until(job_id, "succeeded")
        assert self._requeued(job_id, "drain")
        self._say("that stream has ended: another worker, another API")

    def _account(self) -> None:
        """Every job that was taken has one right ending, and there are no others."""
        flaws = list(self._traffic.flaws(self._expected))
        for events in self._videos:
            flaws += [*check_log(events), *check_video(events, len(self._undisturbed))]
        listed = list(_jobs(self._client))
        taken = len(self._traffic.asked) + len(self._videos)
        if len(listed) != taken or any(job["state"] != "succeeded" for job in listed):
            flaws.append(Flaw("lost", f"{taken} jobs were taken; there are {listed}"))
        if any(queue["waiting"] or queue["running"] for queue in self._client.queues()):
            flaws.append(Flaw("leftover", f"{self._client.queues()}"))
        again = sum(job["attempt"] > 1 for job in listed)
        seen = sum(map(len, [*self._traffic.seen.values(), *self._videos]))
        self._say(f"{taken} jobs taken, {len(listed)} succeeded, {again} of them in more than one attempt")
        self._say(f"{seen} events: {len(flaws)} flaws; {len(self._traffic.surprises)} surprises")
        assert not flaws, "\n".join(map(str, flaws))
        assert not self._traffic.surprises, "\n".join(self._traffic.surprises)

    def _stop(self) -> None:
        """All is well in all containers, and each ends well."""
        for service in ("redis", "web", "chat-worker", "video-worker"):
            [container] = self._project.containers(service)
            eventually(lambda c=container: self._healthy(c), f"{service} to be healthy")  # type: ignore[misc]
        self._say("redis, web, chat-worker and video-worker are healthy")
        self._project.compose("stop")
        states = {
            c["Name"]: c["State"]["ExitCode"] for c in map(self._project.inspect, self._project.every())
        }
        assert not any(states.values()), states
        self._say(f"stopped: {len(states)} containers, exit code 0 each")
        click.echo("\n| --scale | jobs/s |\n|---|---|")
        for workers, rate in self._rates:
            click.echo(f"| {workers} | {rate:.2f} |")

    def _healthy(self, container: str) -> bool:
        return bool(self._project.inspect(container)["State"]["Health"]["Status"] == "healthy")


def _jobs(client: Client) -> Sequence[Json]:
    """All of them, page by page."""
    jobs: list[Json] = []
    path: str | None = "/v1/jobs?limit=100"
    while path:
        page = client.http.get(path).raise_for_status().json()
        jobs += page["jobs"]
        path = page["links"]["next"]
    return jobs
