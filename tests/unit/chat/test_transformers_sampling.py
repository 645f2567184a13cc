"""Tests of the samplers without a model: the distribution is right, and rows do not affect each other."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingTopPLogitsWarper,
)
from transformers.generation.logits_process import TopPLogitsWarper

from tests.support.chat.requests import chat_request, with_sampling
from worker.chat.transformers_engine.gumbel import gumbel_noise
from worker.chat.transformers_engine.likely_tokens import TopP
from worker.chat.transformers_engine.sampling import sampling_options, sampling_processors

VOCABULARY = 8
EOS = (0, 2)
LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0])

#: The 99.9th percentile of chi-square with 7 degrees of freedom (NIST/SEMATECH handbook, 1.3.6.7.4).
CHI_SQUARE_7 = 24.322


def draw(rows: list[tuple[dict[str, float | int], int]], logits: torch.Tensor = LOGITS) -> list[int]:
    """Return the next token of each (options, position) in one batch. All rows have the same logits."""
    processors = sampling_processors(EOS)
    states = [SimpleNamespace(logit_processor_kwargs=options, position_offset=at) for options, at in rows]
    batch = [SimpleNamespace(state=state, has_new_token=True) for state in states]
    arguments = torch.empty(processors.tensors_required, len(rows) + 3, dtype=torch.int32)
    processors.fill_defaults(arguments)
    processors.prepare_tensor_args(batch, arguments)  # type: ignore[arg-type]
    scores = logits.expand(len(rows), -1)
    tokens: list[int] = processors(torch.LongTensor([]), scores, arguments).argmax(-1).tolist()
    return tokens


def options(temperature: float = 1.0, top_p: float = 1.0, seed: int | None = 1) -> dict[str, float | int]:
    request = with_sampling(chat_request("a", [1], 1), temperature=temperature, top_p=top_p, seed=seed)
    return sampling_options(request, random_seed=77)


def chi_square(tokens: list[int], expected: torch.Tensor) -> float:
    counts = torch.bincount(torch.tensor(tokens), minlength=VOCABULARY)
    wanted = expected * len(tokens)
    kept = wanted > 0
    assert counts[~kept].sum() == 0
    return float(((counts - wanted)[kept] ** 2 / wanted[kept]).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampling_follows_softmax(temperature: float) -> None:
    by_seed = draw([(options(temperature, seed=seed), 5) for seed in range(20_000)])
    by_position = draw([(options(temperature, seed=3), at) for at in range(20_000)])
    expected = (LOGITS / temperature).softmax(-1)
    assert chi_square(by_seed, expected) < CHI_SQUARE_7
    assert chi_square(by_position, expected) < CHI_SQUARE_7


def test_sampling_top_p_keeps_likeliest_in_proportion() -> None:
    probabilities = LOGITS.softmax(-1)
    kept = torch.where(probabilities.cumsum(-1) - probabilities < 0.8, probabilities, torch.zeros(()))
    tokens = draw([(options(top_p=0.8, seed=seed), 5) for seed in range(20_000)])
    assert chi_square(tokens, kept / kept.sum()) < CHI_SQUARE_7
    assert set(draw([(options(top_p=1e-9, seed=seed), 5) for seed in range(100)])) == {0}


@pytest.mark.parametrize("given", [{"top_k": 3}, {"min_p": 0.3}, {"top_k": 3, "min_p": 0.01, "top_p": 0.99}])
def test_sampling_keeps_likeliest_in_proportion(given: dict[str, float]) -> None:
    """Each keeps three tokens. Their logits are up to 1 below the largest one, and log(0.3) is -1.2."""
    kept = LOGITS.softmax(-1) * torch.tensor([1.0] * 3 + [0.0] * 5)
    requests = [with_sampling(chat_request("a", [1], 1), seed=seed, **given) for seed in range(20_000)]
    tokens = draw([(sampling_options(request, random_seed=77), 5) for request in requests])
    assert chi_square(tokens, kept / kept.sum()) < CHI_SQUARE_7
    assert draw([({}, 1), (sampling_options(requests[0], 77), 5), ({}, 1)]) == [0, tokens[0], 0]


@pytest.mark.parametrize("spread", [0.01, 0.5, 3.0, 20.0])
def test_top_p_on_cpu_keeps_same_tokens_as_transformers(spread: float) -> None:
    scores = torch.randn(6, 5000, generator=torch.Generator().manual_seed(0)) * spread
    arguments = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]).view(torch.int32)
    ours = TopP(TopPLogitsWarper(1.0))(scores, arguments)
    theirs = ContinuousBatchingTopPLogitsWarper(TopPLogitsWarper(1.0))(scores, arguments)
    differ = ours.isneginf() != theirs.isneginf()
    likely = scores.softmax(-1) > 1e-7  # theirs drops tokens whose probability underflows, even at top_p = 1
    assert (differ & likely).sum(
        -1
    ).max() <= 1  # the sums are in another order, so one token at the edge may differ
    assert torch.equal(ours[~ours.isneginf()], scores[~ours.isneginf()])


def test_sampling_of_row_ignores_other_rows() -> None:
    rows = [(options(0.3 + seed / 9, 0.5 + seed / 16, seed), 40 + seed) for seed in range(8)]
    together = draw(rows)
    assert [draw([row])[0] for row in rows] == together
    assert draw([({}, 1), *reversed(rows)])[1:] == together[::-1]


def test_sampling_greedy_rows_take_largest_logit_among_sampled_rows() -> None:
    rows = [(options(temperature=0.0), at) if at % 2 else (options(5.0), at) for at in range(200)]
    tokens = draw(rows)
    assert set(tokens[1::2]) == {0}
    assert len(set(tokens[::2])) == VOCABULARY
    assert options(temperature=1e-6) == {}


def test_gumbel_noise_has_right_moments_and_no_correlation() -> None:
    keys = torch.arange(1, 2001, dtype=torch.int32).unsqueeze(-1)
    noise = gumbel_noise(keys, 2000)
    assert torch.isfinite(noise).all()
    assert abs(float(noise.mean()) - 0.57722) < 0.005  # Euler's constant
    assert abs(float(noise.var()) - math.pi**2 / 6) < 0.01
    flat = noise - noise.mean()
    for shifted in (flat[1:, :], flat[:, 1:]):
        own = flat[: shifted.shape[0], : shifted.shape[1]]
        assert abs(float((own * shifted).mean())) < 0.005


def test_gumbel_noise_is_pinned_between_versions() -> None:
    """Compare the noise with the hash in plain Python. A request may resume on another version."""

    def mixed(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    for key in (1, 12345, 2**31 - 1, -1, -(2**31)):
        noise = gumbel_noise(torch.tensor([[key]], dtype=torch.int32), 50)[0].tolist()
        for token, value in enumerate(noise):
            bits = mixed(mixed(token + 1) ^ (key % 2**32)) >> 1
            uniform = min((bits + 0.5) / 2**31, 1 - 2**-24)
            assert value == pytest.approx(-math.log(-math.log1p(-uniform)), rel=1e-4, abs=1e-4)


def test_sampling_options_without_seed_use_random_seed() -> None:
    assert options(seed=None)["seed"] == 77
    assert options(seed=-(2**63))["seed"] == -(2**63)
    assert draw([(options(seed=-(2**63)), 1)]) == draw([(options(seed=-(2**63)), 1)])


def test_min_length_allows_no_earlier_end_per_row() -> None:
    def min_length(min_tokens: int, seed: int) -> dict[str, float | int]:
        request = chat_request("a", [1] * 10, 50, seed=seed, min_tokens=min_tokens)
        return sampling_options(request, random_seed=0)

    early = set(draw([(min_length(5, seed), 10 + seed % 5) for seed in range(500)]))
    assert early == set(range(VOCABULARY)) - set(EOS)
    assert set(draw([(min_length(5, seed), 15) for seed in range(500)])) == set(range(VOCABULARY))
    greedy = sampling_options(chat_request("a", [1], 9, temperature=0.0, min_tokens=3), random_seed=0)
    assert draw([(greedy, 3), (greedy, 4), ({}, 3)]) == [1, 0, 0]
