"""Tests of the parameters that change the choice of tokens, against their formulas.

The formulas are those of OpenAI's reference (platform.openai.com/docs/api-reference/chat/create) and of
vLLM's (docs.vllm.ai/en/latest/api/vllm/sampling_params.html), in NumPy on the logits of transformers.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.support.chat.engines import StartedEngine, chat, skip_unsupported
from worker.chat.engine import ChatRequest
from worker.jobs.errors import EngineFailed

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

#: Two logits that differ by less are equal: the engines add in other orders than `generate`.
TOLERANCE = 1e-2

Logits = npt.NDArray[np.float64]


def logits_of(loaded: "LoadedModel", request: ChatRequest, answer: list[int]) -> Logits:
    """Return the model's logits before each token of the answer, shape (tokens, vocabulary)."""
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*request.prompt, *answer]])).logits[0]
    scores: Logits = logits[len(request.prompt) - 1 : -1].double().numpy()
    return scores


def with_rules(logits: Logits, prompt: list[int], answer: list[int], **given: Any) -> Logits:
    """Return the logits of the next token after bias and penalties.

    OpenAI: `mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence`, where `c[j]` is how
    often token j was sampled before, so that the prompt does not count. vLLM: `repetition_penalty` divides
    positive logits and multiplies negative ones of tokens "in the prompt and the generated text so far".
    """
    scores: Logits = logits.copy()
    for token, bias in given.get("logit_bias", {}).items():
        scores[int(token)] += bias
    seen, penalty = list({*prompt, *answer}), given.get("repetition_penalty", 1)
    scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    counts = np.bincount(answer, minlength=len(scores))
    scores -= counts * given.get("frequency_penalty", 0) + (counts > 0) * given.get("presence_penalty", 0)
    return scores


#: Bias and penalties, alone and together.
RULES: list[dict[str, Any]] = [
    {"presence_penalty": 2.0},
    {"frequency_penalty": 1.2},
    {"repetition_penalty": 1.4},
    {"logit_bias": {"28": 4.5, "198": -100, "260": 2}},
    {"logit_bias": {"30": 3, "253": -4}, "repetition_penalty": 1.2},
    {"presence_penalty": -0.5, "frequency_penalty": 0.7, "repetition_penalty": 1.2},
]


@pytest.mark.long
def test_greedy_takes_largest_logit_after_bias_and_penalties(
    started: StartedEngine, loaded: "LoadedModel"
) -> None:
    """Run all rules in one batch, beside a request without rules."""
    skip_unsupported(started, "logit_bias", "repetition_penalty")
    supported = [given for given in RULES if given.keys() <= started.engine.supports]
    requests = [chat(started, str(n), max_tokens=24, **given) for n, given in enumerate([{}, *supported])]
    started.run_requests(*requests)
    answers = [list(started.recorder.ids(request.id)) for request in requests]
    assert all(answer != answers[0] for answer in answers[1:])
    for request, answer, given in zip(requests[1:], answers[1:], supported, strict=True):
        for n, logits in enumerate(logits_of(loaded, request, answer)):
            scores = with_rules(logits, list(request.prompt), answer[:n], **given)
            assert scores[answer[n]] > scores.max() - TOLERANCE, f"token {n} of {given}"


def test_logit_bias_forces_and_bans_tokens(started: StartedEngine) -> None:
    skip_unsupported(started, "logit_bias")
    started.run_requests(chat(started, "a"))
    first = started.recorder.ids("a")[0]
    forced = chat(started, "forced", max_tokens=4, logit_bias={"28": 100})
    banned = chat(started, "banned", logit_bias={str(first): -100})
    started.run_requests(forced, banned)
    assert started.recorder.ids("forced") == (28,) * 4
    assert first not in started.recorder.ids("banned")


def test_logit_bias_of_unknown_token_fails_only_its_request(started: StartedEngine) -> None:
    skip_unsupported(started, "logit_bias")
    wrong = chat(started, "wrong", logit_bias={"28": 1, "999999999": 1})
    runs = started.run_requests(wrong, chat(started, "right"))
    assert runs["right"][-1].finish_reason == "length"
    (end,) = runs["wrong"]
    assert isinstance(end.error, EngineFailed)
    assert "no token 999999999" in str(end.error)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"min_p": 1.0}])
def test_one_possible_token_is_the_greedy_one(started: StartedEngine, options: dict[str, Any]) -> None:
    skip_unsupported(started, *options)
    greedy = chat(started, "greedy")
    drawn = chat(started, "drawn", temperature=2.0, seed=3, **options)
    started.run_requests(greedy, drawn)
    assert started.recorder.ids("drawn") == started.recorder.ids("greedy")


@pytest.mark.parametrize("options", [{"top_k": 3}, pytest.param({"min_p": 0.3}, marks=pytest.mark.long)])
@pytest.mark.long
def test_only_likely_tokens_are_drawn(
    started: StartedEngine, loaded: "LoadedModel", options: dict[str, Any]
) -> None:
    """vLLM: the `top_k` likeliest tokens, or those with `min_p` of the probability of the likeliest one."""
    skip_unsupported(started, *options)
    request = chat(started, "a", max_tokens=32, temperature=1.5, seed=3, **options)
    started.run_requests(request, chat(started, "greedy", max_tokens=32))
    answer = list(started.recorder.ids("a"))
    assert answer != list(started.recorder.ids("greedy"))
    for n, logits in enumerate(logits_of(loaded, request, answer) / 1.5):
        least = max(
            np.sort(logits)[-options["top_k"]] if "top_k" in options else -np.inf,
            logits.max() + np.log(options["min_p"]) if "min_p" in options else -np.inf,
        )
        assert logits[answer[n]] > least - TOLERANCE, f"token {n}"


@pytest.mark.long
def test_bad_words_do_not_occur(started: StartedEngine) -> None:
    """vLLM: "only the last token of a corresponding token sequence is not allowed when the next generated
    token can complete the sequence".
    """
    skip_unsupported(started, "bad_words")
    started.run_requests(chat(started, "a", max_tokens=32))
    words = started.recorder.text("a").split()
    bad = [words[1], " ".join(words[5:7])]
    started.run_requests(chat(started, "b", max_tokens=32, bad_words=bad))
    assert not [word for word in bad if f" {word}" in started.recorder.text("b")]
    assert words[0] == started.recorder.text("b").split()[0]


def test_stop_token_ends_answer_with_or_without_its_text(started: StartedEngine) -> None:
    """vLLM: "the returned output will contain the stop tokens" only with `include_stop_str_in_output`."""
    skip_unsupported(started, "stop_token_ids", "include_stop_str_in_output")
    whole = started.run_requests(chat(started, "a"))["a"]
    ids = started.recorder.ids("a")
    at = next(n for n in range(4, 16) if ids[n] not in ids[:n] and whole[n].text.isascii())
    without, included = started.run_requests(
        chat(started, "without", stop_token_ids=[ids[at]]),
        chat(started, "included", stop_token_ids=[ids[at]], include_stop_str_in_output=True),
    ).values()
    assert started.recorder.text("without") == "".join(delta.text for delta in whole[:at])
    assert started.recorder.text("included") == "".join(delta.text for delta in whole[: at + 1])
    for deltas, name in ((without, "without"), (included, "included")):
        assert deltas[-1].finish_reason == "stop"
        assert started.recorder.ids(name) == ids[: at + 1]


def test_stop_token_is_ordinary_before_min_tokens(started: StartedEngine) -> None:
    skip_unsupported(started, "stop_token_ids")
    started.run_requests(chat(started, "a"))
    ids, text = started.recorder.ids("a"), started.recorder.text("a")
    started.run_requests(chat(started, "b", stop_token_ids=[ids[0], ids[-1]], min_tokens=1))
    ends = min(n for n in range(1, len(ids)) if ids[n] in (ids[0], ids[-1]))
    assert started.recorder.ids("b") == ids[: ends + 1]
    assert started.recorder.text("b") == text[: len(started.recorder.text("b"))] != ""


def test_stop_string_is_included_if_asked(started: StartedEngine) -> None:
    skip_unsupported(started, "include_stop_str_in_output")
    started.run_requests(chat(started, "a"))
    text = started.recorder.text("a")
    stop = text[9:20]
    started.run_requests(chat(started, "b", stop=[stop], include_stop_str_in_output=True))
    assert started.recorder.text("b") == text[: text.find(stop) + len(stop)]
    assert started.recorder.ends("b")[0].finish_reason == "stop"


def test_logprobs_are_those_of_the_model(started: StartedEngine, loaded: "LoadedModel") -> None:
    """vLLM: the log-probabilities are "raw", before temperature, bias and penalties."""
    skip_unsupported(started, "logprobs", "top_logprobs", "repetition_penalty")
    some = chat(started, "some", logprobs=True, top_logprobs=3, repetition_penalty=1.4)
    runs = started.run_requests(
        some,
        chat(started, "chosen", logprobs=True, temperature=2.0, seed=4),
        chat(started, "none"),
    )
    assert [delta.logprobs for delta in runs["none"]] == [()] * 16
    chosen = [each for delta in runs["chosen"] for each in delta.logprobs]
    assert [each["top_logprobs"] for each in chosen] == [[]] * 16
    answer = list(started.recorder.ids("some"))
    entries = [each for delta in runs["some"] for each in delta.logprobs]
    wanted = torch.tensor(logits_of(loaded, some, answer)).log_softmax(-1)
    tokenizer = started.engine.prompt_template.tokenizer
    for token, row, entry in zip(answer, wanted, entries, strict=True):
        assert entry["token"] == tokenizer.decode([token], skip_special_tokens=False)
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=TOLERANCE)
        top = [each["logprob"] for each in entry["top_logprobs"]]
        assert top == pytest.approx(row.topk(3).values.tolist(), abs=TOLERANCE)


def test_bad_words_of_too_many_tokens_fail_alone(started: StartedEngine) -> None:
    """vLLM's model runner V2 would end with all its requests."""
    skip_unsupported(started, "bad_words")
    hidden = ["".join(chr(0x4E00 + 37 * n + k) for k in range(200)) for n in range(8)]
    started.run_requests(chat(started, "a", bad_words=hidden, max_tokens=1), chat(started, "b", max_tokens=1))
    (refused,), (other,) = started.recorder.ends("a"), started.recorder.ends("b")
    assert "bad_words" in str(refused.error)
    assert (refused.finish_reason, other.finish_reason) == ("error", "length")
