"""Tests of compose.yaml: settings, the time that workers have to drain, secrets, and isolation."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.jobs.kinds import KINDS
from worker.jobs.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
#: Settings that the images or a service's command set, or that only clients use.
ELSEWHERE = {"home", "host", "port", "url", "api_key", "worker", "devices", "device_wait_s"}
#: Settings of logs in files. A container logs to its standard error.
ELSEWHERE |= {"log_file", "log_max_bytes"}
#: Seconds that a worker needs to stop after STOKER_DRAIN_S.
LETTING_GO_S = 20


#: Services that other hosts reach, or that reach other hosts.
OUTER = {"web", "webhooks", "models", "flower", "metrics"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"])


@pytest.mark.parametrize("service", ["web", "webhooks", "chat-worker", "video-worker-gpu"])
def test_compose_passes_every_setting(services: dict[str, Any], service: str) -> None:
    environment = services[service]["environment"]
    passed = {name.removeprefix(PREFIX).removesuffix("_FILE").lower() for name in environment}
    assert passed >= Settings.model_fields.keys() - ELSEWHERE


def test_compose_passes_the_variables_of_opentelemetry_to_the_api(services: dict[str, Any]) -> None:
    named = set(re.findall(r"`(OTEL_\w+)`", (ROOT / "docs/tracing.md").read_text("utf-8")))
    assert len(named) > 5
    assert services["web"]["environment"].keys() >= named


@pytest.mark.parametrize("service", ["chat-worker", "video-worker", "chat-worker-gpu", "video-worker-gpu"])
def test_compose_grace_period_covers_drain(services: dict[str, Any], service: str) -> None:
    grace = services[service]["stop_grace_period"].removeprefix("${STOKER_STOP_GRACE:-").removesuffix("s}")
    assert float(grace) >= Settings().drain_s + LETTING_GO_S


def test_compose_has_profiles_for_installations_with_one_kind(services: dict[str, Any]) -> None:
    def started(profile: str) -> set[str]:
        return {name for name, service in services.items() if profile in service.get("profiles", [])}

    assert started("cpu") == {f"{kind}-worker" for kind in KINDS}
    assert started("gpu") == {f"{kind}-worker-gpu" for kind in KINDS}
    for kind in KINDS:
        assert started(f"cpu-{kind}") == {f"{kind}-worker"}
        assert started(f"gpu-{kind}") == {f"{kind}-worker-gpu"}
    fetched = {"STOKER_KINDS", *(f"STOKER_{kind.model_setting.upper()}" for kind in KINDS.values())}
    assert services["models"]["environment"].keys() == fetched


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


def test_compose_locks_every_container(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"] == ["/tmp:size=256m"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name


def test_compose_puts_only_outward_services_into_the_outer_network(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inner"]["internal"] == "${STOKER_ISOLATED:-true}"
    services = compose["services"]
    assert {name for name, service in services.items() if "outer" in service.get("networks", [])} == OUTER
    assert {name for name, service in services.items() if "ports" in service} == {"web", "flower", "metrics"}
    for name, service in services.items():
        # Without a list, Compose would put the service into a third network, which reaches other hosts.
        assert service.get("networks") or service.get("network_mode") == "none", name


def test_compose_passes_secrets_only_as_files(services: dict[str, Any]) -> None:
    secrets = {PREFIX + name.upper() for name, field in Settings.model_fields.items() if not field.repr}
    secrets |= {"AWS_SECRET_ACCESS_KEY", "FLOWER_BASIC_AUTH", "REDISCLI_AUTH"}
    usable_without_password = {"STOKER_REDIS_URL", "STOKER_MEDIA_URL", "STOKER_OTLP_ENDPOINT"}
    for name, service in services.items():
        assert not service.get("environment", {}).keys() & (secrets - usable_without_password), name
    assert "@" not in services["web"]["environment"]["STOKER_REDIS_URL"]


def test_compose_mounts_secrets_read_only_where_they_are_read(services: dict[str, Any]) -> None:
    def reads(service: dict[str, Any]) -> bool:
        said = json.dumps([service.get(part) for part in ("environment", "command", "healthcheck")])
        return "/var/lib/stoker/secrets/" in said

    readers = {name for name, service in services.items() if reads(service)}
    assert readers == services.keys() - {"secrets", "models", "metrics"}
    for name in readers:
        assert "${STOKER_SECRETS_VOLUME:-secrets}:/var/lib/stoker/secrets:ro" in services[name]["volumes"], (
            name
        )


def test_compose_generates_each_secret_once(services: dict[str, Any], tmp_path: Path) -> None:
    command = [word.replace("$$", "$") for word in services["secrets"]["command"]]
    subprocess.run(command, cwd=tmp_path, check=True)
    first = {path.name: path.read_text().strip() for path in tmp_path.iterdir()}
    assert first.keys() == {"redis_password", "flower_password"}
    assert len(set(first.values())) == 2
    for name, secret in first.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    (tmp_path / "flower_password").write_text("")  # what a full disk leaves
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "redis_password").read_text().strip() == first["redis_password"]
    assert len((tmp_path / "flower_password").read_text()) == 44


def test_compose_redis_memory_leaves_room_in_its_container(services: dict[str, Any]) -> None:
    maxmemory = re.search(
        r"--maxmemory \${STOKER_REDIS_MAXMEMORY:-(\d+)gb}", services["redis"]["command"][-1]
    )
    limit = re.fullmatch(r"\${STOKER_REDIS_MEMORY:-(\d+)g}", services["redis"]["mem_limit"])
    assert maxmemory
    assert limit
    assert int(maxmemory[1]) < int(limit[1])


@pytest.mark.parametrize("password", ["secret", None])
def test_flower_image_starts_with_a_login_only(tmp_path: Path, password: str | None) -> None:
    stage = (ROOT / "Dockerfile").read_text().split("FROM base AS flower")[1].split("FROM ")[0]
    command = json.loads(stage.split("CMD ")[1].replace("\\\n", ""))
    (tmp_path / "celery").write_text('#!/bin/sh\necho "started with $FLOWER_BASIC_AUTH"\n')
    (tmp_path / "celery").chmod(0o755)
    (tmp_path / "secrets").mkdir()
    if password:
        (tmp_path / "secrets/flower_password").write_text(password)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stdout == ("started with stoker:secret\n" if password else "")
    assert (done.returncode == 0) == bool(password)
