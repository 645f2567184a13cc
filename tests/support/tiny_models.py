"""Models that the real ones are too odd for."""

from pathlib import Path

from tests.contract.conftest import MODEL
from tests.support.assets import asset


def even_model(folder: Path) -> Path:
    """A small model with random weights and as many heads as two GPUs can share; SmolLM2 has nine."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from worker.chat.gguf import unpack_gguf

    source = unpack_gguf(asset(MODEL))
    config = AutoConfig.from_pretrained(source, num_attention_heads=8, num_key_value_heads=4, head_dim=64)
    config.update({"hidden_size": 512, "num_hidden_layers": 4})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return tokenized(folder)


def tokenized(folder: Path) -> Path:
    """The folder, now with a tokenizer and a chat template."""
    from transformers import AutoTokenizer

    from worker.chat.gguf import unpack_gguf

    AutoTokenizer.from_pretrained(unpack_gguf(asset(MODEL))).save_pretrained(folder)
    return folder
