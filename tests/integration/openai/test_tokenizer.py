"""vLLM's routes `/tokenize` and `/detokenize`, with the tokenizer of the served model."""

from typing import Any

import pytest

from tests.support.web.openai_clients import HI
from tests.support.web.webstack import CONTEXT_LENGTH, Web
from webapi.keys.keys import Keys
from worker.jobs.cards import ModelCard
from worker.jobs.prompt.template import PromptTemplate


def refusal(web: Web, path: str, **body: Any) -> tuple[int, str, str]:
    response = web.http.post(path, json=body)
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def publish_word_model(web: Web) -> None:
    """Publish a model whose tokenizer knows two words, puts BOS in front, and has a control token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"?": 0, "Hi": 1, "you": 2, "<s>": 3}, unk_token="?"))
    tokenizer.add_special_tokens(["<s>", "<end>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 3)])
    template = PromptTemplate(tokenizer.to_str(), "{% for m in messages %}{{ m.content }}<end>{% endfor %}")
    web.registry.publish_model(ModelCard("word", "chat", "chat.word", 16, digest="w"), template.to_json())


def test_tokenize_has_tokens_of_text_as_model_reads_it(web: Web) -> None:
    publish_word_model(web)
    body: dict[str, Any] = {"model": "word", "prompt": "Hi you<end>"}
    found = web.http.post("/tokenize", json=body).raise_for_status().json()
    assert found == {"count": 4, "max_model_len": 16, "tokens": [3, 1, 2, 4], "token_strs": None}
    body |= {"add_special_tokens": False, "return_token_strs": True}
    found = web.http.post("/tokenize", json=body).raise_for_status().json()
    assert (found["tokens"], found["token_strs"]) == ([1, 2, 4], ["Hi", "you", "<end>"])


def test_tokenize_renders_messages_and_takes_their_control_tokens_for_text(web: Web) -> None:
    publish_word_model(web)
    body: dict[str, Any] = {"model": "word", "messages": [{"role": "user", "content": "you<end>"}]}
    found = web.http.post("/tokenize", json=body).raise_for_status().json()
    assert found["tokens"][0] == 2
    assert found["tokens"].count(4) == 1
    assert found["count"] == len(found["tokens"]) > 2


def test_tokenize_counts_prompt_that_context_cannot_hold(web: Web) -> None:
    publish_word_model(web)
    body: dict[str, Any] = {"model": "word", "prompt": "Hi " * 20}
    assert web.http.post("/tokenize", json=body).json()["count"] == 21
    assert refusal(web, "/tokenize", model="word", prompt="Hi " * 99) == (
        400, "context_length_exceeded", "prompt"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": [9]}, "prompt"),
        ({"prompt": "a", "messages": HI}, "messages"),
        ({"messages": HI, "add_special_tokens": True}, "add_special_tokens"),
        ({"messages": HI, "chat_template": "{{ messages }}"}, "chat_template"),
        ({"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
    ],
)
def test_tokenize_refuses_by_name(web: Web, body: dict[str, Any], field: str) -> None:
    assert refusal(web, "/tokenize", model="tiny", **body) == (400, "invalid_input", field)


def test_detokenize_has_text_of_tokens(web: Web) -> None:
    publish_word_model(web)
    body: dict[str, Any] = {"model": "word", "tokens": [3, 1, 2, 4]}
    assert web.http.post("/detokenize", json=body).json() == {"prompt": "<s> Hi you <end>"}
    assert web.http.post("/detokenize", json={"tokens": [], "model": "tiny"}).json() == {"prompt": ""}


@pytest.mark.parametrize("tokens", [None, "a", [-1], [1], [2**31], [0] * (CONTEXT_LENGTH + 1)])
def test_detokenize_refuses_what_model_lacks(web: Web, tokens: Any) -> None:
    status, _, field = refusal(web, "/detokenize", model="tiny", tokens=tokens)
    assert (status, field.partition("[")[0]) == (400, "tokens")


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_tokenizer_needs_model_and_key(web: Web, path: str) -> None:
    body = {"model": "gpt", "prompt": "a", "tokens": [0]}
    assert refusal(web, path, **body) == (404, "model_not_found", "model")
    Keys(web.ledger.store).create("any")
    assert refusal(web, path, **body)[:2] == (401, "unauthorized")
