"""A LoRA adapter with random weights, made without PEFT."""

import json
from pathlib import Path

__all__ = ["write_adapter"]

RANK = 4


def write_adapter(folder: Path, model: Path, seed: int = 0) -> Path:
    """Write a random adapter for the queries and values of the model in this folder. Return `folder`."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    head = config.hidden_size // config.num_attention_heads
    rows = {"q_proj": config.hidden_size, "v_proj": head * config.num_key_value_heads}
    random = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(config.num_hidden_layers):
        for name, size in rows.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(RANK, config.hidden_size, generator=random) * 0.2
            weights[f"{prefix}.lora_B.weight"] = torch.randn(size, RANK, generator=random) * 0.2
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(facts | {"target_modules": [*rows]}))
    return folder
