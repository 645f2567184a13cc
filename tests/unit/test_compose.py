"""compose.yaml knows every setting, and leaves a worker the time that its drain takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.jobs.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
#: Set by the images, by a service's command, or of clients alone.
ELSEWHERE = {"home", "host", "port", "url", "api_key", "worker", "devices", "device_wait_s"}
#: What a drain takes beside STOKER_DRAIN_S.
LETTING_GO_S = 20


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


@pytest.mark.parametrize("service", ["web", "webhooks", "chat-worker", "video-worker-gpu"])
def test_every_setting_can_be_set(services: dict[str, Any], service: str) -> None:
    passed = {name.removeprefix(PREFIX).lower() for name in services[service]["environment"]}
    assert passed >= Settings.model_fields.keys() - ELSEWHERE


@pytest.mark.parametrize("service", ["chat-worker", "video-worker", "chat-worker-gpu", "video-worker-gpu"])
def test_a_worker_has_the_time_to_drain(services: dict[str, Any], service: str) -> None:
    grace = services[service]["stop_grace_period"].removeprefix("${STOKER_STOP_GRACE:-").removesuffix("s}")
    assert float(grace) >= Settings().drain_s + LETTING_GO_S


def test_the_first_key_is_the_user_s(services: dict[str, Any]) -> None:
    """Which is made only if there is none: Prometheus' must come later."""
    assert services["metrics-key"]["depends_on"].keys() == {"key"}


def test_gpu_workers_share_their_locks_and_wait_for_a_gpu(services: dict[str, Any]) -> None:
    for name in ("chat-worker-gpu", "video-worker-gpu"):
        assert "locks:/var/lib/stoker/locks" in services[name]["volumes"]
        assert services[name]["environment"]["STOKER_DEVICE_WAIT_S"] == "${STOKER_DEVICE_WAIT_S:-inf}"
    assert Settings.from_env({"STOKER_DEVICE_WAIT_S": "inf"}).device_wait_s == float("inf")


def test_what_a_gpu_worker_has_compiled_is_there_for_the_next(services: dict[str, Any]) -> None:
    cache = "/var/lib/stoker/.cache"
    for name in ("chat-worker-gpu", "video-worker-gpu"):
        assert f"cache:{cache}" in services[name]["volumes"]
    stage = (ROOT / "Dockerfile").read_text().split("FROM base AS worker-cuda")[1].split("FROM ")[0]
    for variable in ("TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert f"{variable}={cache}" in stage
