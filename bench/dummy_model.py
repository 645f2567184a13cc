"""A model with a shape and no weights: vLLM makes them up with `load_format` "dummy"."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LLAMA_8B", "make_dummy_model", "read_shape"]

#: The ids of special tokens in SmolLM2's tokenizer, which all these models have.
SPECIAL_TOKENS: Mapping[str, int] = {"bos_token_id": 1, "eos_token_id": 2}
#: The shape of Llama 3.1 8B.
LLAMA_8B: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    **SPECIAL_TOKENS,
}


def read_shape(model_config: str) -> Mapping[str, object]:
    """Return the shape in a Hugging Face config.json, of which this is the path or the folder.

    "8b" is the shape of Llama 3.1 8B.
    """
    if model_config == "8b":
        return LLAMA_8B
    path = Path(model_config)
    shape = json.loads((path / "config.json" if path.is_dir() else path).read_text("utf-8"))
    return {**shape, **SPECIAL_TOKENS}


def make_dummy_model(folder: Path, tokenizer: Path, shape: Mapping[str, object] = LLAMA_8B) -> Path:
    """Write a model of this shape into the new `folder`, with the tokenizer of the model `tokenizer`.

    Both are Hugging Face directories. The model can generate every id below its `vocab_size`, so the
    tokenizer gets a token for each of them. Returns the folder. Raises `ValueError` if the tokenizer has
    more tokens.
    """
    found = json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))
    vocabulary = found["model"]["vocab"]
    first, size = max(vocabulary.values()) + 1, shape["vocab_size"]
    assert isinstance(size, int)
    if size < first:
        raise ValueError(f"the model's {size} tokens are fewer than the {first} of its tokenizer")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(shape), "utf-8")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    vocabulary |= {f"~{number:x}": number for number in range(first, size)}
    (folder / "tokenizer.json").write_text(json.dumps(found), "utf-8")
    return folder
