"""Tests of the warm-up requests of chat engines."""

from worker.chat.warmup import LONG_PROMPT, SHORT_PROMPT, warmup_batches


def test_warmup_batches_run_prompt_of_each_graph_size_alone() -> None:
    sizes = [len(batch[0].prompt) for batch in warmup_batches(8, 2048, (1, 2, 4, 8, 256)) if len(batch) == 1]
    assert sizes[:6] == [LONG_PROMPT, 2, 2, 4, 8, 256]
    assert set(sizes[6:]) == {SHORT_PROMPT}


def test_warmup_batches_fit_into_context() -> None:
    requests = [request for batch in warmup_batches(3, 64, (512,)) for request in batch]
    assert all(len(request.prompt) + request.sampling.max_tokens <= 64 for request in requests)


def test_warmup_batches_start_all_prompts_differently() -> None:
    starts = [tuple(request.prompt[:2]) for batch in warmup_batches(64, 2048, (8, 16)) for request in batch]
    assert len(set(starts)) == len(starts)
