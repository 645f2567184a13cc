"""Loading of chat models: no Python code in a model's folder runs."""

import json
from pathlib import Path

import pytest

from tests.support.chat.tiny_models import tokenized


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
    with pytest.raises(ValueError, match="contains custom code"):
        load_model(tmp_path, "cpu")
    assert not ran.exists()
