"""Prompts that no chat template makes: texts and token ids."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.jobs.errors import InvalidInput, Unsupported
from worker.jobs.prompt.template import PROMPT_FEATURES, PromptTemplate
from worker.jobs.specs import ChatJob, read_spec, validate

TOOL = {"type": "function", "function": {"name": "f"}}
HI = [{"role": "user", "content": "Hi"}]


def template() -> PromptTemplate:
    """Return a template whose tokenizer puts `<s>` in front and has the control token `<end>`."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "Hi": 1, "<s>": 2}, unk_token="?"))
    tokenizer.add_special_tokens(["<s>", "<end>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 2)])
    return PromptTemplate(tokenizer.to_str(), "{{ messages[0].content }}")


def job(**fields: Any) -> ChatJob:
    return validate(ChatJob, fields)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"prompt": "Hi<end>"}, [2, 1, 3]),
        ({"prompt": "Hi<end>", "add_special_tokens": False}, [1, 3]),
        ({"prompt": [3, 1]}, [3, 1]),
        ({"prompt": "Hi Hi Hi", "truncate_prompt_tokens": 2}, [1, 1]),
        ({"prompt": "Hi " * 20, "truncate_prompt_tokens": -1, "max_tokens": 4}, [1] * 6),
    ],
)
def test_raw_prompt_is_tokenized_without_template(fields: dict[str, Any], ids: list[int]) -> None:
    assert template().encode_job(job(**fields), 10) == ids


def test_raw_prompt_with_token_that_model_lacks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no token 4, only 0 to 3") as refused:
        template().encode_job(job(prompt=[1, 4]), 10)
    assert refused.value.field == "prompt"


def test_raw_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no tokens"):
        template().encode_job(job(prompt=" ", add_special_tokens=False), 10)


@pytest.mark.parametrize("value", ["", [], [-1], [2**31], [True], [1.5], ["a"], 1, {}, "\ud800"])
def test_raw_prompt_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        job(prompt=value)
    assert refused.value.field == "prompt"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"prompt": "Hi", "messages": HI}, "messages"),
        ({"prompt": "Hi", "tools": [TOOL]}, "prompt"),
        ({"prompt": "Hi", "continue_final_message": True}, "prompt"),
        ({"prompt": "Hi", "chat_template_kwargs": {"a": 1}}, "prompt"),
        ({"messages": HI, "add_special_tokens": True}, "add_special_tokens"),
    ],
)
def test_chat_has_either_messages_or_raw_prompt(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        job(**fields)
    assert refused.value.field == field


def test_raw_prompt_needs_worker_that_knows_it() -> None:
    assert job(prompt="Hi").asked() == ["prompt"]
    assert "prompt" in PROMPT_FEATURES
    assert job(messages=HI, add_special_tokens=False).asked() == []
    # A worker that is too old to know the field finds no messages.
    with pytest.raises(Unsupported, match="messages"):
        read_spec(ChatJob, '{"model": "tiny", "max_tokens": 4}')


def test_raw_prompt_is_stored_without_defaults_and_not_shown() -> None:
    raw = job(prompt="Hi", add_special_tokens=True)
    stored = raw.model_dump(exclude_defaults=True)
    assert stored == {"prompt": "Hi"}
    assert read_spec(ChatJob, raw.model_dump_json(exclude_defaults=True)) == raw
    assert ChatJob.shown(stored) == {}
