"""LoRA adapters of the vLLM engine: their answers are those of vLLM alone, also when they are resumed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.assets import asset
from tests.support.chat.engines import MODEL, SHORT_QUESTION, SMALL_VLLM_ARGS, StartedEngine, chat, start_vllm
from tests.support.chat.lora import write_adapter
from worker.chat.gguf import unpack_gguf
from worker.chat.vllm_engine.engine import VllmEngine
from worker.jobs.errors import ConfigurationError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NEW_TOKENS = 16


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("vllm", exc_type=ImportError)
    folder, model = tmp_path_factory.mktemp("adapters"), unpack_gguf(asset(MODEL))
    return {name: write_adapter(folder / name, model, seed) for seed, name in enumerate("ab")}


@pytest.fixture(scope="module")
def started(adapters: dict[str, Path]) -> Iterator[StartedEngine]:
    started = start_vllm(4, 256, adapters=adapters)
    yield started
    started.engine.stop()


def generated_by_vllm(adapters: dict[str, Path], prompt: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the tokens that vLLM's own engine generates, without an adapter and with each one."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest

    options = {
        "enable_lora": True,
        "max_loras": 2,
        "max_lora_rank": 8,
        "max_model_len": 256,
        "max_num_seqs": 4,
    }
    llm = LLM(str(unpack_gguf(asset(MODEL))), dtype="float32", **options, **SMALL_VLLM_ARGS)
    requests = [
        None,
        *(LoRARequest(name, n, str(path)) for n, (name, path) in enumerate(adapters.items(), 1)),
    ]
    greedy = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
    given = TokensPrompt(prompt_token_ids=list(prompt))
    # One after the other: on the CPU vLLM gives wrong answers to a batch of which only a part has an adapter.
    answers = [llm.generate(given, greedy, lora_request=request)[0] for request in requests]
    return [tuple(answer.outputs[0].token_ids) for answer in answers]


def test_vllm_lora_answers_are_those_of_vllm_alone(started: StartedEngine, adapters: dict[str, Path]) -> None:
    request = chat(started, "base", SHORT_QUESTION, NEW_TOKENS, ignore_eos=False)
    started.run_requests(request, *(replace(request, id=name, adapter=name) for name in adapters))
    ours = [tuple(started.recorder.ids(name)) for name in ("base", *adapters)]
    assert len({*ours}) == 3
    assert ours == generated_by_vllm(adapters, request.prompt)


def test_vllm_lora_answer_resumes_at_any_cut(started: StartedEngine) -> None:
    request = replace(chat(started, "whole", max_tokens=NEW_TOKENS), adapter="a")
    started.run_requests(request)
    ids = started.recorder.ids("whole")
    rest = [replace(request, id=f"from {n}", generated_ids=ids[:n]) for n in range(1, len(ids))]
    started.run_requests(*rest)
    assert [started.recorder.ids(each.id) for each in rest] == [ids[n:] for n in range(1, len(ids))]


@pytest.mark.parametrize("content", [None, "{}", "[", '{"r": 4, "peft_type": "LORA"}'])
def test_vllm_lora_that_cannot_be_loaded_ends_the_start(
    adapters: dict[str, Path], tmp_path: Path, content: str | None
) -> None:
    if content:
        (tmp_path / "adapter_config.json").write_text(content)
    engine = VllmEngine(asset(MODEL), args=SMALL_VLLM_ARGS, adapters={"broken": tmp_path}, context_length=64)
    with pytest.raises(ConfigurationError, match=r"STOKER_LORA: .*broken"):
        engine.start(lambda deltas: None, lambda error: None)
