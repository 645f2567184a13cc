"""What is unpacked of a GGUF file, beside the weights themselves (tests/contract has these)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.chat import gguf


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def unpack(source: Path, folder: Path) -> None:
    """As transformers leaves it."""
    (folder / "config.json").touch()
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("umask", "modes"), [(0o022, (0o755, 0o644)), (0o027, (0o750, 0o640))], indirect=["umask"]
)
def test_others_may_read_it_as_far_as_the_umask_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: None, modes: tuple[int, int]
) -> None:
    monkeypatch.setattr(gguf, "_unpack", unpack)
    source = tmp_path / "model.gguf"
    source.touch()
    folder = gguf.unpacked(source)
    assert folder.stat().st_mode & 0o777 == modes[0]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {modes[1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf", folder.name]
