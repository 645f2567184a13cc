"""Tests of unpacking a GGUF file. tests/contract covers the weights themselves."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.chat.gguf import unpack_gguf


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def convert(source: Path, folder: Path) -> None:
    """Write files with the access rights that transformers gives them."""
    (folder / "config.json").touch()
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("umask", "modes"), [(0o022, (0o755, 0o644)), (0o027, (0o750, 0o640))], indirect=["umask"]
)
def test_unpack_gguf_grants_access_rights_of_umask(
    tmp_path: Path, umask: None, modes: tuple[int, int]
) -> None:
    source = tmp_path / "model.gguf"
    source.touch()
    folder = unpack_gguf(source, convert)
    assert folder.stat().st_mode & 0o777 == modes[0]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {modes[1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf", folder.name]
