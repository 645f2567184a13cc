"""Small models with random weights, for tests that the real models do not fit."""

from pathlib import Path

from tests.support.assets import asset
from tests.support.chat.engines import MODEL


def even_model(folder: Path) -> Path:
    """Make a small model with a number of heads that two GPUs can share; SmolLM2 has nine."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from worker.chat.gguf import unpack_gguf

    source = unpack_gguf(asset(MODEL))
    config = AutoConfig.from_pretrained(source, num_attention_heads=8, num_key_value_heads=4, head_dim=64)
    config.update({"hidden_size": 512, "num_hidden_layers": 4})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return tokenized(folder)


def tokenized(folder: Path) -> Path:
    """Add a tokenizer and a chat template to the model in `folder`, and return the folder."""
    from transformers import AutoTokenizer

    from worker.chat.gguf import unpack_gguf

    AutoTokenizer.from_pretrained(unpack_gguf(asset(MODEL))).save_pretrained(folder)
    return folder


def small_model(folder: Path) -> Path:
    """Make a model of one small layer in `folder`, which loads in a moment, and return the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return tokenized(folder)
