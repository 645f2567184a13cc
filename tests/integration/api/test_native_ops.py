"""The memory report of a job, and the operational routes."""

from dataclasses import replace
from importlib import metadata
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.stack import eventually
from tests.support.web.webstack import CHAT, VIDEO, Web
from worker.jobs.events import Batch
from worker.jobs.readings import EngineStats, GpuMemory

SVG = "{http://www.w3.org/2000/svg}"


def test_memory_report_marks_first_last_and_grown_batches(web: Web) -> None:
    def batch(index: int, before: int, after: int) -> Batch:
        samples = {name: {"allocated": 1, "reserved": size} for name, size in
                   {"before": before, "after": after}.items()}  # fmt: skip
        peaks = {"peak_allocated": 5, "peak_reserved": after}
        padded = 8 if index == 2 else 0
        return Batch(index, 16 - padded, padded, 0.5, {"source": "cuda"} | samples | peaks)

    job_id = web.submit()
    assert web.http.get(f"/v1/jobs/{job_id}/memory").json() == {"id": job_id, "batches": [], "devices": []}
    assert "0 batches" in web.http.get(f"/v1/jobs/{job_id}/memory.svg").text
    web.worker.claim(job_id)
    web.worker.append(job_id, batch(0, 10, 20), batch(1, 20, 30), batch(2, 30, 30))
    report = web.http.get(f"/v1/jobs/{job_id}/memory").json()
    batches = report["batches"]
    assert [(b["first"], b["last"], b["grew"]) for b in batches] == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]
    picture = web.http.get(f"/v1/jobs/{job_id}/memory.svg")
    assert picture.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
    tooltips = [title.text for title in ElementTree.fromstring(picture.content).iter(f"{SVG}title")]
    assert tooltips[:3] == ["time: 500"] * 3
    assert len(tooltips) == 3 * 5
    assert batches[2] == {
        "attempt": 1,
        "index": 2,
        "worker": "scripted",
        "device": "cpu",
        "frames": 8,
        "padded": 8,
        "size": 16,
        "seconds": 0.5,
        "source": "cuda",
        "before": {"allocated": 1, "reserved": 30},
        "after": {"allocated": 1, "reserved": 30},
        "peak_allocated": 5,
        "peak_reserved": 30,
        "first": False,
        "last": True,
        "grew": False,
    }
    assert report["devices"] == [
        {
            "worker": "scripted",
            "device": "cpu",
            "source": "cuda",
            "batches": 3,
            "frames": 40,
            "allocated": 1,
            "reserved": 30,
            "peak_allocated": 5,
            "peak_reserved": 30,
            "grew": True,
        }
    ]


def test_ops_queues_workers_readiness_and_metrics(web: Web) -> None:
    assert web.http.get("/readyz").status_code == 503
    health = web.http.get("/health")
    assert (health.status_code, health.content) == (503, b"")
    chat = web.ready_worker("chat", slots=2)
    response = web.http.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert response.json()["detail"] == "no worker is ready for: video"
    assert int(response.headers["Retry-After"]) > 0
    web.ready_worker("video", slots=1)
    assert web.http.get("/readyz").json() == {"status": "ready"}
    health = web.http.get("/health")
    assert (health.status_code, health.content) == (200, b"")

    waiting, canceled = web.submit(), web.submit()
    web.http.post(f"/v1/jobs/{canceled}/cancel")
    (queue,) = [q for q in web.http.get("/v1/queues").json()["queues"] if q["name"] == CHAT]
    assert queue == {
        "name": CHAT,
        "waiting": 1,
        "running": 0,
        "slots": 2,
        "max_waiting": 1000,
        "estimated_wait_s": 0,
        "paused": False,
    }
    workers = web.http.get("/v1/workers").json()["workers"]
    assert [w["name"] for w in workers] == ["chat1", "video1"]
    assert {"kind", "host", "pid", "device", "engine", "running", "memory", "state"} <= workers[0].keys()

    web.worker.claim(waiting)
    text = web.http.get("/metrics").text
    for line in [
        f'stoker_jobs_waiting{{queue="{CHAT}"}} 0.0',
        f'stoker_jobs_running{{queue="{CHAT}"}} 1.0',
        f'stoker_jobs_finished_total{{queue="{CHAT}",state="canceled"}} 1.0',
        f'stoker_slots{{queue="{VIDEO}"}} 1.0',
        'stoker_workers{kind="chat",state="ready"} 1.0',
    ]:
        assert line in text.splitlines()

    web.ledger.store.client.zadd(web.ledger.store.key("workers"), {chat.name: 1})  # its lease ended long ago
    eventually(lambda: web.http.get("/readyz").status_code == 503, "readyz to notice")
    assert [w["name"] for w in web.http.get("/v1/workers").json()["workers"]] == ["video1"]


def test_metrics_tell_readings_of_workers_cards(web: Web) -> None:
    """The usage of a model's cache is the mean of its workers. A worker on a CPU has no memory of a GPU."""
    chat, video = web.ready_worker("chat"), web.ready_worker("video")
    gpus = GpuMemory("GPU-a", 1, 2, 3), GpuMemory("GPU-b", 4, 5, 6)
    first = replace(chat, warmup_s=2.5, gpus=gpus, engine_stats=EngineStats(0.25, 100, 40, 1))
    second = replace(chat, name="chat2", engine_stats=EngineStats(0.75, 10, 5, 1))
    warming = replace(chat, name="chat3", engine_stats=EngineStats(), state="warming")
    for card in (first, second, warming, replace(video, warmup_s=1.5)):
        web.registry.renew(card)
    families = {
        family.name: family for family in text_string_to_metric_families(web.http.get("/metrics").text)
    }

    def samples(name: str, *labels: str) -> dict[tuple[str, ...], float]:
        found = families[name].samples
        return {tuple(sample.labels[label] for label in labels): sample.value for sample in found}

    assert samples("stoker_worker_warmup_seconds", "worker", "queue") == {
        ("chat1", CHAT): 2.5,
        ("video1", VIDEO): 1.5,
    }
    for number, kind in enumerate(("allocated", "reserved", "peak"), start=1):
        found = samples(f"stoker_gpu_memory_{kind}_bytes", "host", "gpu")
        assert found == {("host", "GPU-a"): number, ("host", "GPU-b"): number + 3}
    vllm = {
        "kv_cache_usage_perc": 0.5,
        "prefix_cache_queries": 110,
        "prefix_cache_hits": 45,
        "num_preemptions": 2,
    }
    for name, value in vllm.items():
        assert samples(f"vllm:{name}", "model_name", "engine") == {("tiny", "0"): value}


def test_metrics_tell_requests_by_route_method_and_status(web: Web) -> None:
    for _ in range(3):
        web.http.delete("/v1/jobs/nobody")

    def requests() -> float:
        families = text_string_to_metric_families(web.http.get("/metrics").text)
        labels = {"route": "/v1/jobs/<job:job_id>", "method": "DELETE", "status": "404"}
        counts = [s for f in families for s in f.samples if s.name == "stoker_http_request_seconds_count"]
        return sum(sample.value for sample in counts if sample.labels == labels)

    eventually(lambda: requests() >= 3, "the process to add its requests")


def test_ops_version_is_that_of_the_package(web: Web) -> None:
    assert web.http.get("/version").json() == {"version": metadata.version("stoker")}


@pytest.mark.parametrize("version", ["x", "1.x", "", "-1", "9.9.9"])
@pytest.mark.parametrize("media", ["text/plain", "application/openmetrics-text"])
def test_metrics_accept_any_version(web: Web, media: str, version: str) -> None:
    response = web.http.get("/metrics", headers={"Accept": f"{media}; version={version}"})
    assert (response.status_code, "stoker_workers" in response.text) == (200, True)


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain",
        "text/plain;version=1.0.0",
        *(f"application/openmetrics-text{v}" for v in ("", ";version=1.0.0")),
    ],
)
def test_metrics_keep_the_colon_of_vllms_names(web: Web, accept: str) -> None:
    web.ready_worker("chat")
    text = web.http.get("/metrics", headers={"Accept": accept}).text
    assert 'vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0' in text.splitlines()


def test_ops_readiness_needs_a_redis_that_takes_writes(web: Web) -> None:
    for kind in ("chat", "video"):
        web.ready_worker(kind)
    assert web.http.get("/readyz").status_code == 200
    web.ledger.store.client.config_set("min-replicas-to-write", 1)
    try:
        response, health = web.http.get("/readyz"), web.http.get("/health")
    finally:
        web.ledger.store.client.config_set("min-replicas-to-write", 0)
    assert response.status_code == 503
    assert (health.status_code, health.content) == (503, b"")
    assert "NOREPLICAS" in response.json()["detail"]
    assert int(response.headers["Retry-After"]) > 0
    assert web.http.get("/readyz").status_code == 200
