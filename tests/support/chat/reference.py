"""The reference for greedy answers: transformers' own `generate`, and the logits of the model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

NEW_TOKENS = 30
#: Two logits that differ by less are a tie, because batches of other sizes add up in another order.
TIE = 1e-3

QUESTIONS = [
    "What is the capital of Japan?",
    "Write a short poem about the sea.",
    "Explain photosynthesis to a child.",
    "List three uses of a brick.",
    "Translate 'good morning' into French and Spanish.",
    "Who wrote Hamlet, and when?",
    "Count from one to twenty.",
    "Give me a recipe for pancakes.",
]


def assert_as_generated(loaded: "LoadedModel", prompt: Sequence[int], answers: list[str]) -> None:
    """Assert that each answer equals that of `model.generate`, up to a tie within float noise."""
    import torch

    ids = torch.tensor([list(prompt)])
    out = loaded.model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokenizer = loaded.prompt_template.tokenizer
    expected = out.sequences[0, ids.shape[1] :].tolist()
    for text in answers:
        if text != tokenizer.decode(expected):
            begins = [text.startswith(tokenizer.decode(expected[: n + 1])) for n in range(len(expected))]
            top = out.logits[begins.index(False)][0].topk(2).values.tolist()
            assert top[0] - top[1] < TIE, f"token {begins.index(False)} differs; its logits: {top}"


def nats_short(loaded: "LoadedModel", prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Return for each token of an answer by how many nats the model's likeliest token is likelier."""
    import torch

    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return [float(short) for short in logits.max(1).values - chosen]
