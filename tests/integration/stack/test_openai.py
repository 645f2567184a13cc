"""Tests of OpenAI's client with the whole stack and real models."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.assets import asset
from tests.support.stack import Stack, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]

JAPAN: dict[str, Any] = {
    "model": "SmolLM2-135M-Instruct",
    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
    "temperature": 0,
}


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.settings.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_stack_completion_equals_stream(client: OpenAI) -> None:
    whole = client.chat.completions.create(**JAPAN)
    text = whole.choices[0].message.content
    assert "Tokyo" in str(text)
    assert whole.choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(**JAPAN, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_stack_ignore_eos_gives_fixed_length(client: OpenAI) -> None:
    short, long = (
        client.chat.completions.create(**JAPAN, max_completion_tokens=24, extra_body=extra)
        for extra in ({}, {"ignore_eos": True})
    )
    assert short.usage is not None
    assert short.usage.completion_tokens < 24
    assert long.usage is not None
    assert (long.usage.completion_tokens, long.choices[0].finish_reason) == (24, "length")


def test_stack_text_completion_continues_texts_and_their_tokens(client: OpenAI, stack: Stack) -> None:
    request: dict[str, Any] = {"model": JAPAN["model"], "temperature": 0, "max_tokens": 6}
    texts = ["One, two, three,", "1, 2, 3, 4,"]
    tokens = [
        stack.http.post("/tokenize", json={"model": JAPAN["model"], "prompt": text}).json()["tokens"]
        for text in texts
    ]
    whole = client.completions.create(prompt=texts, **request)
    assert [choice.text.split()[0] for choice in whole.choices] == ["four,", "5,"]
    assert {choice.finish_reason for choice in whole.choices} == {"length"}
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (sum(map(len, tokens)), 12)
    chunks = list(client.completions.create(prompt=tokens, stream=True, echo=True, **request))
    for index, choice in enumerate(whole.choices):
        parts = [c.choices[0].text for c in chunks if c.choices[0].index == index]
        assert "".join(parts) == texts[index] + choice.text


def test_stack_closed_stream_cancels_job_and_frees_slot(client: OpenAI, stack: Stack) -> None:
    stream = client.chat.completions.create(**JAPAN, stream=True, extra_body={"ignore_eos": True})
    job = {"id": next(stream).id.removeprefix("chatcmpl-")}
    assert stack.job(job)["state"] == "running"
    stream.close()
    ended, _ = stack.finished(job)
    assert ended["state"] == "canceled"
    eventually(
        lambda: all(w["running"] == 0 for w in stack.http.get("/v1/workers").json()["workers"]) or None,
        "idle workers",
    )


def test_stack_video_lifecycle(client: OpenAI) -> None:
    with asset("carphone_pristine.mp4").open("rb") as clip:
        video = client.videos.create_and_poll(
            prompt="", model="selfie_segmentation", input_reference=clip, poll_interval_ms=50
        )
    assert (video.status, video.progress, video.size) == ("completed", 100, "176x144")
    assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"
    assert client.videos.delete(video.id).deleted
