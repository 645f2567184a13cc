"""Loading of chat models: no Python code in a model's folder runs."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.chat.tiny_models import small_model, tokenized
from worker.jobs.errors import ModelMissing


@pytest.mark.parametrize("auto_class", ["AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"])
def test_load_model_runs_no_code_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto_class: str
) -> None:
    from worker.chat.checkpoint import load_model

    monkeypatch.setattr("builtins.input", lambda question: "y")  # transformers would ask
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n")
    auto_map: object = {auto_class: "evil.Evil"}
    if auto_class == "AutoTokenizer":
        auto_map = {auto_class: ["evil.Evil", None]}
    # transformers knows vit, but no language model of that kind.
    config = {"model_type": "evil" if auto_class == "AutoConfig" else "vit", "auto_map": auto_map}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if auto_class == "AutoTokenizer":
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Evil", "auto_map": auto_map})
        )
    else:
        tokenized(tmp_path)
    with pytest.raises(ModelMissing, match="contains custom code"):
        load_model(tmp_path, "cpu")
    assert not ran.exists()


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\0" * 64)


def with_damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", "utf-8")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            without_template,
            r".* has no chat template: take the model's Instruct or Chat version, or add its .*",
        ),
        (
            without_config,
            r".* has no config\.json: a chat model is a \.gguf file or a folder with config\.json.*",
        ),
        (without_tokenizer, r"the model at .* cannot be loaded: .*tokenizer.*"),
        (without_weights, r"the model at .* cannot be loaded: .*no file named model\.safetensors.*"),
        (with_damaged_weights, r"the model at .* cannot be loaded: .+"),
        (with_damaged_config, r"the model at .* cannot be loaded: .*config\.json.*"),
    ],
)
def test_load_model_names_what_a_folder_lacks_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    from worker.chat.checkpoint import load_model

    damage(small_model(tmp_path))
    with pytest.raises(ModelMissing) as raised:
        load_model(tmp_path, "cpu")
    assert re.fullmatch(sentence, str(raised.value))


def test_load_model_passes_errors_of_the_system_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.chat import checkpoint

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "unpack_gguf", full)
    (tmp_path / "m.gguf").touch()
    with pytest.raises(OSError, match="No space left"):
        checkpoint.load_model(tmp_path / "m.gguf", "cpu")
