"""The fields of OpenAI's chat requests that are refused by name."""

from pathlib import Path

from webapi.openai.request_fields import NUMBERS
from webapi.submission.neutral_fields import UNSUPPORTED
from worker.jobs.specs import ChatJob

PAGE = Path(__file__).parents[3] / "docs" / "openai-api.md"


def test_refused_fields_are_documented() -> None:
    refused = PAGE.read_text(encoding="utf-8").partition("**Refused**")[2].partition("**Ignored:**")[0]
    assert [name for name in UNSUPPORTED if f"`{name}`" not in refused] == []


def test_refused_fields_are_not_supported_ones() -> None:
    assert not UNSUPPORTED.keys() & ChatJob.model_fields.keys()


def test_numbers_are_all_number_fields() -> None:
    times = {"timeout_s", "max_queue_s"}
    whole = {
        "max_tokens",
        "max_completion_tokens",
        "min_tokens",
        "seed",
        "priority",
        "top_k",
        "top_logprobs",
        "n",
        "truncate_prompt_tokens",
    }
    penalties = {"presence_penalty", "frequency_penalty", "repetition_penalty"}
    assert whole | times | penalties | {"temperature", "top_p", "min_p"} == NUMBERS
