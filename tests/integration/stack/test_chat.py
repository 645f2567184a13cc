"""Chats through the whole stack with the real model."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.assets import asset
from tests.support.chat.reference import NEW_TOKENS, QUESTIONS, assert_as_generated
from tests.support.stack import SLOTS, Stack, eventually, main_event_types
from worker.chat.checkpoint import load_model
from worker.jobs.settings import child_env

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JAPAN = "What is the capital of Japan?"
#: A chat that is not over before a slow test has canceled it. Without `min_tokens` a story may end early.
LONG: dict[str, Any] = {"max_tokens": 1500, "min_tokens": 1500, "temperature": 1.0}
STORY = "Tell a very long story about a dragon."


@pytest.fixture
def full_lane(stack: Stack) -> Any:
    """A lane with a long chat in every slot; the jobs of the chats."""
    jobs = [stack.chat(STORY, seed=n, **LONG) for n in range(SLOTS)]
    for job in jobs:
        stack.until(job, "token")
    yield jobs
    for job in jobs:
        stack.cancel(job)
    for job in jobs:
        stack.finished(job)


def text_of(events: list[dict[str, Any]]) -> str:
    """Return the text of all token events."""
    return "".join(event["text"] for event in events if event["type"] == "token")


def test_chat_job_answers_with_events_result_and_usage(stack: Stack) -> None:
    job, events = stack.finished(stack.chat(JAPAN, temperature=0))
    assert job["state"] == "succeeded"
    assert "Tokyo" in job["result"]["text"]
    assert text_of(events) == job["result"]["text"]
    assert main_event_types(event["type"] for event in events) == ["queued", "started", "succeeded"]
    assert events[-1]["usage"] == job["usage"]
    assert job["usage"]["completion_tokens"] == job["progress"]["done"]
    assert (job["attempt"], job["device"], job["queue_position"]) == (1, "cpu", None)
    assert job["worker"] in {worker["name"] for worker in stack.http.get("/v1/workers").json()["workers"]}
    result = stack.http.get(job["links"]["result"]).json()
    assert result["message"] == {"role": "assistant", "content": job["result"]["text"]}


def test_chat_choices_are_the_answers_of_their_seeds(stack: Stack) -> None:
    """The seed of a choice is that of the chat plus the index of the choice."""
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 8}
    job, _ = stack.finished(stack.chat(STORY, n=3, seed=7, **options))
    alone = [stack.chat(STORY, seed=7 + index, **options) for index in range(3)]
    texts = [stack.finished(each)[0]["result"]["text"] for each in alone]
    assert [choice["text"] for choice in job["result"]["choices"]] == texts
    assert len(set(texts)) == 3


@pytest.mark.long
def test_chat_greedy_text_equals_generate_alone_and_in_batch(stack: Stack) -> None:
    def greedy(question: str) -> Any:
        return stack.chat(question, temperature=0, max_tokens=NEW_TOKENS)

    def text(job: Any) -> str:
        return str(stack.finished(job)[0]["result"]["text"])

    alone = [text(greedy(question)) for question in QUESTIONS[:2]]
    jobs = [greedy(question) for question in QUESTIONS]
    crowd = [text(job) for job in jobs]
    loaded = load_model(asset("SmolLM2-135M-Instruct.Q4_1.gguf"), "cpu")
    for n, question in enumerate(QUESTIONS[:2]):  # fewer, because `generate` is slow
        prompt = loaded.prompt_template.encode([{"role": "user", "content": question}])
        assert_as_generated(loaded, prompt, [crowd[n], *alone[n : n + 1]])


def test_chat_options_hold_per_request_in_batch(stack: Stack) -> None:
    count = "Count from 1 to 20, separated by commas."
    asked = [
        stack.chat(count, temperature=0, max_tokens=12),
        stack.chat(count, temperature=0, stop=["5"]),
        stack.chat(STORY, seed=1, max_tokens=30),
        stack.chat(STORY, seed=1, max_tokens=30),
        stack.chat(STORY, seed=2, max_tokens=30),
        stack.chat(STORY, seed=1, max_tokens=30, top_p=1e-6),
        stack.chat(STORY, temperature=0, max_tokens=30),
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        done = [job for job, _ in pool.map(stack.finished, asked)]
    short, stopped, one, same, two, nucleus, greedy = (job["result"]["text"] for job in done)
    assert done[0]["usage"]["completion_tokens"] == 12
    assert done[0]["result"]["finish_reason"] == "length"
    assert done[1]["result"]["finish_reason"] == "stop"
    assert stopped.startswith(short)
    assert "4" in stopped
    assert "5" not in stopped
    assert one == same != two
    assert nucleus == greedy


def test_chat_waits_for_slot_with_queue_position(stack: Stack, full_lane: list[dict[str, Any]]) -> None:
    first, second = stack.chat(JAPAN, temperature=0), stack.chat(JAPAN, temperature=0)
    assert [stack.job(job)["queue_position"] for job in (first, second)] == [1, 2]
    assert all(stack.job(job)["state"] == "running" for job in full_lane)
    assert stack.cancel(full_lane[0]).status_code == 202
    done, events = stack.finished(first)
    assert "Tokyo" in done["result"]["text"]
    assert events[0]["position"] == 1
    ended, _ = stack.finished(full_lane[0])
    assert ended["state"] == "canceled"
    assert ended["usage"]["completion_tokens"] >= 1
    assert stack.cancel(full_lane[0]).status_code == 200  # a second cancel has no effect
    stack.finished(second)


def test_chat_canceled_while_waiting_never_starts(stack: Stack, full_lane: list[dict[str, Any]]) -> None:
    waiting = stack.chat(JAPAN)
    response = stack.cancel(waiting)
    assert (response.status_code, response.json()["state"]) == (200, "canceled")
    _, events = stack.finished(waiting)
    assert main_event_types(event["type"] for event in events) == ["queued", "canceled"]


@pytest.mark.long
def test_celery_inspect_answers_while_lane_is_full(stack: Stack, full_lane: list[dict[str, Any]]) -> None:
    inspect = [sys.executable, "-m", "celery", "-A", "worker.jobs.broker", "inspect"]
    options: dict[str, Any] = {"env": child_env(stack.settings), "text": True, "timeout": 60}
    pong = json.loads(subprocess.check_output([*inspect, "ping", "-t", "5", "--json"], **options))
    assert [answer["ok"] for answer in pong.values()] == ["pong", "pong"]
    known = ["-d", ",".join(pong)]  # so that Celery waits for no other answers
    active = subprocess.check_output([*inspect, "active", *known, "-t", "10", "--json"], **options)
    assert all(active.count(f'"id": "{job["id"]}"') == 1 for job in full_lane)

    waiting = stack.chat(JAPAN, temperature=0)
    queues = {queue["name"]: queue for queue in stack.http.get("/v1/queues").json()["queues"]}
    chats = queues["chat.SmolLM2-135M-Instruct"]
    assert (chats["waiting"], chats["running"], chats["slots"]) == (1, SLOTS, SLOTS)
    status = stack.run_cli("status")
    assert status.returncode == 0, status.stderr
    assert waiting["id"] in status.stdout
    assert all(job["id"] in status.stdout for job in full_lane)
    stack.cancel(waiting)


def control(stack: Stack, *command: str) -> None:
    celery = [sys.executable, "-m", "celery", "-A", "worker.jobs.broker", "control"]
    subprocess.check_call([*celery, *command], env=child_env(stack.settings), stdout=subprocess.DEVNULL)


@pytest.mark.long
def test_celery_terminate_cancels_job(stack: Stack) -> None:
    job = stack.chat(STORY, **LONG)
    stack.until(job, "token")
    control(stack, "terminate", "SIGTERM", job["id"])
    ended, _ = stack.finished(job)
    assert ended["state"] == "canceled"


@pytest.mark.long
def test_celery_revoke_cancels_waiting_job(stack: Stack, full_lane: list[dict[str, Any]]) -> None:
    waiting = stack.chat(JAPAN)
    control(stack, "revoke", waiting["id"])
    stack.cancel(full_lane[0])  # its slot is free for the next message
    ended, events = stack.finished(waiting)
    assert ended["state"] == "canceled"
    assert main_event_types(event["type"] for event in events) == ["queued", "canceled"]


def test_chat_streams_whole_multibyte_characters(stack: Stack) -> None:
    ask = "Repeat exactly: 日本語 😀🎉 žluťoučký кот 한국어"
    done, events = stack.finished(stack.chat(ask, temperature=0, max_tokens=60))
    assert text_of(events) == done["result"]["text"]
    assert len(done["result"]["text"].encode()) > len(done["result"]["text"])
    assert "\N{REPLACEMENT CHARACTER}" not in done["result"]["text"]


def test_chat_events_are_the_same_for_all_clients(stack: Stack) -> None:
    job = stack.chat(STORY, seed=3, max_tokens=40)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: list(stack.events(job)), range(2))
    late = list(stack.events(job))
    assert one == two == late
    assert list(stack.events(job, after=5)) == late[5:]


def test_chat_refuses_prompt_longer_than_context(stack: Stack) -> None:
    before = stack.http.get("/v1/jobs").json()["jobs"]
    body = {"messages": [{"role": "user", "content": "word " * 5000}]}
    response = stack.http.post("/v1/jobs/chat", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["field"] == "messages"
    assert stack.http.get("/v1/jobs").json()["jobs"] == before


def test_cli_chat_streams_answer(stack: Stack) -> None:
    done = stack.run_cli("chat", JAPAN, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert "Tokyo" in done.stdout
    refused = stack.run_cli("chat", JAPAN, "--max-tokens", "0")
    assert refused.returncode != 0
    assert len(refused.stderr.strip().splitlines()) == 1


def test_worker_cards_describe_workers(stack: Stack) -> None:
    workers = {w["kind"]: w for w in stack.http.get("/v1/workers").json()["workers"]}
    assert workers.keys() == {"chat", "video"}
    chat = workers["chat"]
    assert (chat["engine"], chat["slots"], chat["state"]) == ("transformers", SLOTS, "ready")
    assert chat["memory"]["allocated"] > 10**8
    assert chat["host"] == os.uname().nodename
    os.kill(chat["pid"], 0)
    eventually(
        lambda: all(w["running"] == 0 for w in stack.http.get("/v1/workers").json()["workers"]) or None,
        "idle workers",
    )
