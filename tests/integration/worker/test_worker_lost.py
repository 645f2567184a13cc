"""`stoker up` with workers that are killed in the middle of a job: the job finishes anyway."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.assets import asset
from tests.support.stack import Stack, eventually, free_port, main_event_types
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

COUNT = "Write the numbers from one to forty as words."


def settings_in(home: Path, **changes: object) -> Settings:
    port = free_port()
    settings = Settings(home=home, port=port, url=f"http://127.0.0.1:{port}", lease_ttl_s=2, devices="cpu")
    return settings.replace(**changes)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(settings_in(tmp_path_factory.mktemp("up")))
    stack.start("up", "up")
    try:
        eventually(stack.ready, "a ready stack")
        yield stack
        children = _children(stack.processes["up"].pid)
        assert len(children) == 5
        assert stack.stop("up") == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        stack.http.close()
        for process in stack.processes.values():
            os.killpg(process.pid, signal.SIGKILL)  # its children then end by themselves


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_worker_of(stack: Stack, job: dict[str, Any]) -> None:
    """Send SIGKILL to the worker that runs the job."""
    name = stack.job(job)["worker"]
    [card] = [w for w in stack.http.get("/v1/workers").json()["workers"] if w["name"] == name]
    os.kill(card["pid"], signal.SIGKILL)


def test_worker_lost_chat_continues_where_it_stopped(up: Stack) -> None:
    undisturbed, _ = up.finished(up.chat(COUNT, temperature=0, max_tokens=40))
    job = up.chat(COUNT, temperature=0, max_tokens=40)
    stream = up.events(job)
    seen, killed = [], False
    for event in stream:  # one stream spans the loss of the worker
        seen.append(event)
        if not killed and event["type"] == "token" and event["index"] >= 12:
            kill_worker_of(up, job)
            killed = True
    done = up.job(job)
    assert done["state"] == "succeeded"
    assert done["attempt"] == 2
    types = main_event_types(event["type"] for event in seen)
    assert types == ["queued", "started", "requeued", "started", "succeeded"]
    tokens = [event for event in seen if event["type"] == "token"]
    assert "".join(token["text"] for token in tokens) == done["result"]["text"]
    assert [t["index"] for t in tokens[1:]] == [t["index"] + t["count"] for t in tokens[:-1]]
    assert done["result"] == undisturbed["result"]
    assert done["usage"]["total_tokens"] == undisturbed["usage"]["total_tokens"]


@pytest.mark.long
def test_worker_lost_choices_continue_where_they_stopped(up: Stack) -> None:
    eventually(up.ready, "workers again")
    options: dict[str, Any] = {"n": 2, "seed": 3, "temperature": 1.0, "max_tokens": 24}
    undisturbed, _ = up.finished(up.chat(COUNT, **options))
    job = up.chat(COUNT, **options)
    for event in up.events(job):
        if event["type"] == "token" and event["index"] >= 8:
            kill_worker_of(up, job)
            break
    done, events = up.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert done["result"] == undisturbed["result"]
    assert done["usage"]["completion_tokens"] == undisturbed["usage"]["completion_tokens"]
    for choice in done["result"]["choices"]:
        mine = [e for e in events if e["type"] == "token" and e["choice"] == choice["index"]]
        assert "".join(event["text"] for event in mine) == choice["text"]
        assert [e["index"] for e in mine[1:]] == [e["index"] + e["count"] for e in mine[:-1]]


@pytest.mark.long
def test_worker_lost_raw_prompt_continues_where_it_stopped(up: Stack) -> None:
    eventually(up.ready, "workers again")
    body = {"prompt": "One, two, three,", "temperature": 0, "max_tokens": 40}
    undisturbed, _ = up.finished(up.http.post("/v1/jobs/chat", json=body).json())
    job = up.http.post("/v1/jobs/chat", json=body).json()
    for event in up.events(job):
        if event["type"] == "token" and event["index"] >= 12:
            kill_worker_of(up, job)
            break
    done, events = up.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert done["result"] == undisturbed["result"]
    assert "".join(e["text"] for e in events if e["type"] == "token") == done["result"]["text"]


def test_worker_lost_video_is_finished_by_next_worker(up: Stack) -> None:
    eventually(up.ready, "workers again")
    job = up.video(asset("carphone_pristine.mp4"), effect="blur")
    up.until(job, "batch")
    kill_worker_of(up, job)
    done, events = up.finished(job)
    assert (done["state"], done["attempt"], done["result"]["frames"]) == ("succeeded", 2, 120)
    assert [event["reason"] for event in events if event["type"] == "requeued"] == ["worker_lost"]
    assert up.http.get(f"/v1/jobs/{job['id']}/result").status_code == 200


def test_up_writes_state_file_and_refuses_second_one_in_its_home(up: Stack) -> None:
    state = json.loads((up.settings.home_dir / "up.json").read_text())
    assert state["url"] == up.settings.url
    second = up.run_cli("up")
    assert second.returncode != 0
    assert "already runs" in second.stderr


@pytest.mark.long
def test_up_restart_loses_no_job(tmp_path: Path) -> None:
    stack = Stack(settings_in(tmp_path, drain_s=0.1, slots=4))
    try:
        stack.start("up", "up")
        eventually(stack.ready, "a ready stack")
        jobs = [stack.chat(COUNT, temperature=0, max_tokens=16) for _ in range(6)]
        stack.until(jobs[0], "token")
        assert stack.stop("up") == 0
        stack.start("up", "up")
        eventually(stack.ready, "the stack again")
        ends = [stack.finished(job) for job in jobs]
        assert {done["state"] for done, _ in ends} == {"succeeded"}
        assert len({(done["result"]["text"], done["usage"]["completion_tokens"]) for done, _ in ends}) == 1
        reasons = {event["reason"] for _, events in ends for event in events if event["type"] == "requeued"}
        assert reasons == {"drain"}
        assert stack.stop("up") == 0
    finally:
        stack.http.close()
        for process in stack.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
