"""Tests that compose.yaml passes every setting, and gives workers enough time to drain."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.jobs.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
#: Settings that the images or a service's command set, or that only clients use.
ELSEWHERE = {"home", "host", "port", "url", "api_key", "worker", "devices", "device_wait_s"}
#: Seconds that a worker needs to stop after STOKER_DRAIN_S.
LETTING_GO_S = 20


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


@pytest.mark.parametrize("service", ["web", "webhooks", "chat-worker", "video-worker-gpu"])
def test_compose_passes_every_setting(services: dict[str, Any], service: str) -> None:
    passed = {name.removeprefix(PREFIX).lower() for name in services[service]["environment"]}
    assert passed >= Settings.model_fields.keys() - ELSEWHERE


@pytest.mark.parametrize("service", ["chat-worker", "video-worker", "chat-worker-gpu", "video-worker-gpu"])
def test_compose_grace_period_covers_drain(services: dict[str, Any], service: str) -> None:
    grace = services[service]["stop_grace_period"].removeprefix("${STOKER_STOP_GRACE:-").removesuffix("s}")
    assert float(grace) >= Settings().drain_s + LETTING_GO_S


def test_compose_creates_metrics_key_after_first_key(services: dict[str, Any]) -> None:
    """`first` is created only if there is no key, so the key of Prometheus must come later."""
    assert services["metrics-key"]["depends_on"].keys() == {"key"}


def test_compose_gpu_workers_share_locks_and_wait(services: dict[str, Any]) -> None:
    for name in ("chat-worker-gpu", "video-worker-gpu"):
        assert "locks:/var/lib/stoker/locks" in services[name]["volumes"]
        assert services[name]["environment"]["STOKER_DEVICE_WAIT_S"] == "${STOKER_DEVICE_WAIT_S:-inf}"
    assert Settings.from_env({"STOKER_DEVICE_WAIT_S": "inf"}).device_wait_s == float("inf")


def test_compose_gpu_workers_share_compile_cache(services: dict[str, Any]) -> None:
    cache = "/var/lib/stoker/.cache"
    for name in ("chat-worker-gpu", "video-worker-gpu"):
        assert f"cache:{cache}" in services[name]["volumes"]
    stage = (ROOT / "Dockerfile").read_text().split("FROM base AS worker-cuda")[1].split("FROM ")[0]
    for variable in ("TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert f"{variable}={cache}" in stage
