"""The base images, made here where there is no registry: Debian by debootstrap, Redis, and torch's wheel.

What this machine knows of the way to its packages, a bundle of certificates and pip's settings, goes into
them: it is looked up, and nothing of it is written here.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.compose.engine import Engine, repository

__all__ = ["bases"]

DEBIAN = "bookworm"
BASE, REDIS, WHEELS = "stoker-test/python", "stoker-test/redis", "stoker-test/wheels"
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
#: Of pip's settings, those that are addresses, and no paths of this machine.
REMOTE = ("index-url", "extra-index-url", "proxy", "trusted-host", "default-timeout")
REDIS_RECIPE = f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server \\
    && install --directory --owner redis --group redis /data
USER redis
WORKDIR /data
"""


def bases(engine: Engine) -> Mapping[str, str]:
    """The variables by which compose.yaml takes these images; they are made if they are not there."""
    if not engine.has_image(BASE):
        _bootstrap(engine)
    if not engine.has_image(REDIS):
        engine.run("docker", "build", "--tag", REDIS, "-", given=REDIS_RECIPE.encode())
    if not engine.has_image(WHEELS):
        _pack_torch(engine)
    return {"STOKER_BASE_IMAGE": BASE, "STOKER_REDIS_IMAGE": REDIS, "STOKER_WHEELS_IMAGE": WHEELS}


def _bootstrap(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(prefix="stoker-base-") as folder:
        root = Path(folder, "root")
        engine.run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root))
        if Path("/", CERTIFICATES).exists():
            shutil.copy(Path("/", CERTIFICATES), root / CERTIFICATES)
        (root / "etc/pip.conf").write_text(_pip_settings())
        for leftover in (root / "var/cache/apt/archives").glob("*.deb"):
            leftover.unlink()
        _import(engine, root, BASE)


def _pip_settings() -> str:
    """What pip is told here about where packages are, for a container."""
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    lines = ["[global]", f"cert = /{CERTIFICATES}"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option, value = name.rpartition(".")[2], value.strip("'\"")
        if option in REMOTE and "file:" not in value:
            lines.append(f"{option} = {value}")
    return "\n".join([*lines, ""])


def _pack_torch(engine: Engine) -> None:
    """An image of nothing but the wheel that pip takes here: another one may bring gigabytes of CUDA."""
    wanted = next(
        line for line in (repository() / "constraints.txt").read_text().splitlines() if line[:7] == "torch=="
    )
    with tempfile.TemporaryDirectory(prefix="stoker-wheels-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wanted]
        subprocess.run(pip, check=True)
        _import(engine, Path(folder), WHEELS)


def _import(engine: Engine, root: Path, tag: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        engine.run(
            "tar", "--numeric-owner", "--create", "--file", archive.name, "--directory", str(root), "."
        )
        engine.run("docker", "import", archive.name, tag)
