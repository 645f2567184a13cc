"""Measure structured answers of a worker's engine, beside the bare engine with the same JSON schema.

    python -m bench.structured [--at-once 1 8] [--rounds 3] [--engine auto] [--devices auto]

The bare engine is `generate` of transformers with llguidance's matcher in a logits processor, or vLLM's `LLM`
with its structured outputs. Both get the same prompts at once and answer greedily. They take turns, so that
other load on the machine affects both. `free` is the worker's engine without the schema, with answers of as
many tokens. With vLLM, give each engine a part of the GPU:
`STOKER_VLLM_ARGS='{"gpu_memory_utilization":0.4}'`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.chat import prompt
from tests.support.chat.recorder import Recorder
from tests.support.chat.requests import chat_request
from worker import assets
from worker.chat.engine import ChatEngine
from worker.chat.engines import make_engine
from worker.devices.lease import lease
from worker.jobs.chat.grammars import grammar_text, schema_text
from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.settings import Settings

if TYPE_CHECKING:
    import torch

#: An answer has about 100 tokens.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 60, "maxLength": 80},
        "genre": {"enum": ["fable", "novel", "report"]},
        "pages": {
            "type": "array",
            "items": {"type": "integer", "minimum": 100, "maximum": 999},
            "minItems": 10,
            "maxItems": 10,
        },
    },
    "required": ["title", "genre", "pages"],
    "additionalProperties": False,
}
ASKED = StructuredOutputs(json=SCHEMA)
MAX_TOKENS = 300

#: Answers prompts of token ids at once, and returns the number of tokens of each answer.
Answer = Callable[[Sequence[list[int]]], Sequence[int]]


class Worker:
    """The engine of a worker, with or without the schema."""

    def __init__(self, settings: Settings, device: str, gpus: int) -> None:
        named = make_engine(settings, device, gpus)
        self.name, self.engine = named.name, named.engine
        self._recorder, self._ids = Recorder(), count()
        self.engine.start(self._recorder.on_step, self._recorder.on_broken)

    def structured(self, prompts: Sequence[list[int]]) -> Sequence[int]:
        return self._run(prompts, max_tokens=MAX_TOKENS, structured_outputs=ASKED)

    def free(self, prompts: Sequence[list[int]]) -> Sequence[int]:
        return self._run(prompts, max_tokens=100, ignore_eos=True)

    def _run(self, prompts: Sequence[list[int]], **sampling: Any) -> Sequence[int]:
        requests = [chat_request(str(next(self._ids)), ids, temperature=0.0, **sampling) for ids in prompts]
        self._recorder.run_requests(self.engine, *requests)
        return [len(self._recorder.ids(request.id)) for request in requests]


def bare_transformers(engine: ChatEngine, settings: Settings, device: str) -> Answer:
    """Return `generate` of transformers with a logits processor that masks by llguidance."""
    import torch
    from llguidance import LLMatcher, LLTokenizer
    from llguidance.torch import allocate_token_bitmask, apply_token_bitmask_inplace, fill_next_token_bitmask

    from worker.chat.checkpoint import load_model

    loaded = load_model(assets.resolve(settings.models_dir, settings.chat_model), device)
    eos, vocabulary = sorted(loaded.files.eos_tokens), loaded.model.config.get_text_config().vocab_size
    tokenizer = LLTokenizer(loaded.prompt_template.tokenizer_json, vocabulary, eos)

    def answer(prompts: Sequence[list[int]]) -> Sequence[int]:
        size, width = len(prompts), max(map(len, prompts))
        matchers = [LLMatcher(tokenizer, grammar_text(ASKED)) for _ in prompts]
        bits = allocate_token_bitmask(size, vocabulary)

        def mask(ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            for row, matcher in enumerate(matchers):
                if ids.size(1) > width:
                    matcher.consume_token(int(ids[row, -1]))
                fill_next_token_bitmask(matcher, bits, row)
            apply_token_bitmask_inplace(scores, bits.to(scores.device))
            return scores

        padded = torch.tensor([[eos[0]] * (width - len(ids)) + ids for ids in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        out = loaded.model.generate(  # type: ignore[operator]
            padded, attention_mask=seen, max_new_tokens=MAX_TOKENS, do_sample=False,
            logits_processor=[mask], eos_token_id=eos, pad_token_id=eos[0],
        )  # fmt: skip
        rows = out[:, width:].tolist()
        return [next((n + 1 for n, token in enumerate(row) if token in eos), len(row)) for row in rows]

    return answer


def bare_vllm(engine: ChatEngine, settings: Settings, device: str) -> Answer:
    """Return `generate` of vLLM's `LLM`."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import StructuredOutputsParams

    from worker.chat.gguf import unpack_gguf

    path = assets.resolve(settings.models_dir, settings.chat_model)
    llm = LLM(
        str(unpack_gguf(path) if path.is_file() else path),
        max_num_seqs=settings.slots,
        max_model_len=engine.context_length,
        dtype="float32" if device == "cpu" else "auto",
        structured_outputs_config={"backend": "guidance"},
        **settings.vllm_args,
    )

    def answer(prompts: Sequence[list[int]]) -> Sequence[int]:
        params = SamplingParams(
            temperature=0,
            max_tokens=MAX_TOKENS,
            structured_outputs=StructuredOutputsParams(json=schema_text(ASKED)),
            detokenize=False,
        )
        inputs = [tokens_input(ids) for ids in prompts]
        return [len(out.outputs[0].token_ids) for out in llm.generate(inputs, params, use_tqdm=False)]

    return answer


def prompts(engine: ChatEngine, numbers: Iterator[int], size: int) -> Sequence[list[int]]:
    texts = [prompt(next(numbers)) for _ in range(size)]
    return [engine.prompt_template.encode([{"role": "user", "content": text}]) for text in texts]


def rate(answer: Answer, given: Sequence[list[int]]) -> float:
    began = time.perf_counter()
    tokens = sum(answer(given))
    return tokens / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8], help="numbers of chats")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine")
    parser.add_argument("--devices")
    args = parser.parse_args()
    own = {"engine": args.engine, "devices": args.devices}
    settings = Settings.from_env().replace(slots=max(args.at_once), **own)
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    device = lease(settings.devices, settings.home_dir / "bench-locks")
    worker = Worker(settings, device.torch_device, device.gpus)
    make_bare = bare_vllm if worker.name == "vllm" else bare_transformers
    try:
        bare = make_bare(worker.engine, settings, device.torch_device)
        print(f"{worker.name} on {device.label}; tokens/s (median of {args.rounds} rounds)")
        print(f"{'at once':>8} {'free':>8} {'schema':>8} {'bare':>8} {'schema / bare':>14}")
        numbers = count()  # every prompt is new, because vLLM caches the prompts that it has seen
        for at_once in args.at_once:
            contestants = [worker.free, worker.structured, bare]
            rounds = [
                [rate(answer, prompts(worker.engine, numbers, at_once)) for answer in contestants]
                for _ in range(1 + args.rounds)
            ]
            free, schema, plain = map(statistics.median, zip(*rounds[1:], strict=True))  # the first warms up
            print(
                f"{at_once:>8} {free:>8.1f} {schema:>8.1f} {plain:>8.1f} {schema / plain:>14.2f}", flush=True
            )
    finally:
        worker.engine.stop()  # otherwise the engine's thread would keep this process alive


if __name__ == "__main__":
    main()
