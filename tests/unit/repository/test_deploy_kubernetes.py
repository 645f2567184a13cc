"""Tests of `deploy/kubernetes`: the manifests fit Kubernetes' schemas, and what they name exists."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from tests.support.deploy import (
    DEPLOY,
    KUBECTL,
    KUBERNETES,
    Manifest,
    built,
    read_all,
)
from tests.support.docs import ROOT
from webapi.cli.main import main
from worker.jobs.settings import PREFIX, Settings

BASE = KUBERNETES / "base"
#: Seconds that a worker needs to stop after STOKER_DRAIN_S.
LETTING_GO_S = 20
#: The oldest and the newest Kubernetes whose schemas the manifests must fit.
OLDEST, NEWEST = "1.30", "1.37"

needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


@pytest.fixture(scope="module")
def resources() -> list[Manifest]:
    """The resources of the base, as its files have them."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [resource for name in names for resource in read_all(BASE / name)]


def pods(resources: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod specifications of all Deployments and StatefulSets, by name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet")
    }


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def env_file() -> dict[str, str]:
    """Return the settings of the base."""
    lines = (BASE / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file in `deploy/`."""
    for file in sorted(DEPLOY.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(DEPLOY)), file.read_text()


def test_manifests_fit_the_schemas_of_an_old_kubernetes(resources: list[Manifest]) -> None:
    for resource in resources:
        kubernetes_validate.validate(resource, OLDEST, strict=True)


@needs_kubectl
@pytest.mark.parametrize("folder", ["base", pytest.param("cpu", marks=pytest.mark.long)])
def test_kustomizations_build_resources_that_fit_the_schemas_of_a_new_kubernetes(folder: str) -> None:
    found = built(folder)
    for resource in found:
        kubernetes_validate.validate(resource, NEWEST, strict=True)
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == "stoker"
    gpus = [
        container["resources"]["limits"].get("nvidia.com/gpu", 0)
        for name, pod in pods(found).items()
        for container in pod["containers"]
        if "worker" in name
    ]
    assert gpus == ([1, 1] if folder == "base" else [0, 0])
    images = {container["image"] for pod in pods(found).values() for container in containers(pod)}
    worker = "worker-cuda" if folder == "base" else "worker-cpu"
    ours = {f"registry.example/stoker:{target}" for target in ("web", worker)}
    assert images == {*ours, "redis:8-bookworm"}


@needs_kubectl
def test_kustomization_of_the_documentation_changes_images_and_settings(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    shown = re.search(r"^\$ cat production/kustomization.yaml\n(.*?)^\$", page, re.M | re.S)
    assert shown
    (tmp_path / "stoker").symlink_to(ROOT)
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "kustomization.yaml").write_text(shown[1])
    text = subprocess.check_output(["kubectl", "kustomize", str(tmp_path / "production")], text=True)
    found = list(yaml.safe_load_all(text))
    images = {container["image"] for pod in pods(found).values() for container in containers(pod)}
    assert "registry.mycompany.example/stoker:worker-cuda" in images
    [settings] = [each for each in found if each["metadata"]["name"].startswith("settings")]
    assert settings["data"].items() > {"STOKER_SLOTS": "256", "STOKER_REDIS_REPLICAS": "1"}.items()


def test_deploy_names_only_variables_that_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    files = {
        PREFIX + name.upper() + "_FILE" for name, field in Settings.model_fields.items() if not field.repr
    }
    for name, text in texts():
        assert set(re.findall(r"\bSTOKER_[A-Z_]*[A-Z]", text)) <= known | files, name


def test_manifests_settings_are_valid() -> None:
    env = {name: value for name, value in env_file().items() if not name.endswith("_FILE")}
    settings = Settings.from_env(env)
    assert settings.redis_replicas == 1
    assert str(settings.media_url).startswith("s3://")


def test_manifests_run_commands_and_images_that_exist(resources: list[Manifest]) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.M))
    commands = set()
    for pod in pods(resources).values():
        for container in containers(pod):
            name, tag = container["image"].split(":")
            if name == "stoker":
                assert tag in stages
                assert "command" not in container  # it would replace the image's entry point, tini
                commands.add(" ".join(container["args"]))
                assert_command(container["args"])
    assert commands == {
        "stoker web",
        "stoker worker chat",
        "stoker worker video",
        "stoker worker webhooks",
        "stoker models",
        "stoker keys create first --if-none",
    }


def assert_command(words: list[str]) -> None:
    """Assert that the command line knows the command."""
    command: click.Command | None = main
    for word in words[1:]:
        if not isinstance(command, click.Group):
            break
        command = command.commands.get(word)
        assert command is not None, words


def test_manifests_probe_what_the_images_check(resources: list[Manifest]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    found = pods(resources)
    [web] = found["web"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert web[probe]["httpGet"] == {"path": "/livez", "port": "http"}
    assert web["ports"] == [{"name": "http", "containerPort": 8000}]
    assert "EXPOSE 8000" in dockerfile
    for name in ("chat-worker", "video-worker"):
        [worker] = found[name]["containers"]
        for probe in ("startupProbe", "readinessProbe"):
            health = worker[probe]["exec"]["command"]
            assert f"CMD {json.dumps(health)}" in dockerfile
        assert "livenessProbe" not in worker  # the check asks Redis


def test_manifests_mount_folders_that_the_images_have(resources: list[Manifest]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    line = re.search(r"--group stoker ((?:[\w.]+ )+)&&|--group stoker ([\w. ]+) \\", dockerfile)
    assert line
    folders = {f"/var/lib/stoker/{name}" for name in (line[1] or line[2]).split()} | {
        "/var/lib/stoker/secrets"
    }
    for name, pod in pods(resources).items():
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {"data"} if name in ("redis", "sentinel") else set()
        for container in containers(pod):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts.keys() <= volumes, name
            if container["image"].startswith("stoker"):
                assert set(mounts.values()) <= folders | {"/tmp", "/dev/shm"}, name


def test_manifests_workers_have_time_to_drain(resources: list[Manifest]) -> None:
    drain_s = float(env_file()["STOKER_DRAIN_S"])
    for name in ("chat-worker", "video-worker"):
        assert pods(resources)[name]["terminationGracePeriodSeconds"] >= drain_s + LETTING_GO_S


def test_manifests_lock_every_container(resources: list[Manifest]) -> None:
    for name, pod in pods(resources).items():
        # Service links would set STOKER_PORT if a Service had the name `stoker`.
        assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False), name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        user = pod["securityContext"]["runAsUser"]
        for container in containers(pod):
            assert user == (10001 if container["image"].startswith("stoker") else 999), name
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_manifests_select_pods_that_exist(resources: list[Manifest]) -> None:
    names = pods(resources).keys()

    def selected(resource: Manifest) -> Any:
        spec = resource["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        return selector.get("matchLabels", selector).get("app.kubernetes.io/name")

    for each in resources:
        if each["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet"):
            assert selected(each) in {*names, None}, each["metadata"]["name"]


def test_manifests_redis_memory_leaves_room_in_its_container(resources: list[Manifest]) -> None:
    [redis] = pods(resources)["redis"]["containers"]
    assert "maxmemory 3gb" in (BASE / "redis" / "redis.conf").read_text()
    assert redis["resources"]["limits"]["memory"] == "4Gi"
