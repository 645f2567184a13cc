"""The base images, made here without a registry: Debian from debootstrap, Redis, and torch's wheel.

The images get this machine's certificates and pip's settings, so that their builds reach the same package
indexes. Both are looked up here, and none of them is part of this repository.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.compose.docker_engine import DockerEngine, repository

__all__ = ["base_images"]

DEBIAN = "bookworm"
BASE, REDIS, WHEELS = "stoker-test/python", "stoker-test/redis", "stoker-test/wheels"
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
#: Names of pip's settings that say how to reach an index. Settings that are paths of this machine would not
#: work in an image.
INDEX_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host", "default-timeout")
REDIS_DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server \\
    && install --directory --owner redis --group redis /data
USER redis
WORKDIR /data
"""


def base_images(docker: DockerEngine) -> Mapping[str, str]:
    """Make the images that do not exist yet, and return the variables that name them to compose.yaml."""
    if not docker.has_image(BASE):
        _bootstrap_debian(docker)
    if not docker.has_image(REDIS):
        docker.run("docker", "build", "--tag", REDIS, "-", stdin=REDIS_DOCKERFILE.encode())
    if not docker.has_image(WHEELS):
        _pack_torch(docker)
    return {"STOKER_BASE_IMAGE": BASE, "STOKER_REDIS_IMAGE": REDIS, "STOKER_WHEELS_IMAGE": WHEELS}


def _bootstrap_debian(docker: DockerEngine) -> None:
    with tempfile.TemporaryDirectory(prefix="stoker-base-") as folder:
        root = Path(folder, "root")
        docker.run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root))
        if Path("/", CERTIFICATES).exists():
            shutil.copy(Path("/", CERTIFICATES), root / CERTIFICATES)
        (root / "etc/pip.conf").write_text(_pip_conf())
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        _import_image(docker, root, BASE)


def _pip_conf() -> str:
    """Return a pip.conf for the image, with this machine's settings of package indexes."""
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    lines = ["[global]", f"cert = /{CERTIFICATES}"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option, value = name.rpartition(".")[2], value.strip("'\"")
        if option in INDEX_SETTINGS and "file:" not in value:
            lines.append(f"{option} = {value}")
    return "\n".join([*lines, ""])


def _pack_torch(docker: DockerEngine) -> None:
    """Make an image that contains only torch's wheel, as pip downloads it on this machine.

    Another index may have a wheel that needs gigabytes of CUDA.
    """
    wanted = next(
        line for line in (repository() / "constraints.txt").read_text().splitlines() if line[:7] == "torch=="
    )
    with tempfile.TemporaryDirectory(prefix="stoker-wheels-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wanted]
        subprocess.run(pip, check=True)
        _import_image(docker, Path(folder), WHEELS)


def _import_image(docker: DockerEngine, root: Path, tag: str) -> None:
    """Make an image whose file system is the folder `root`."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        docker.run(
            "tar", "--numeric-owner", "--create", "--file", archive.name, "--directory", str(root), "."
        )
        docker.run("docker", "import", archive.name, tag)
