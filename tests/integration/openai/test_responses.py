"""Tests of OpenAI's Responses API with OpenAI's Python client and a scripted worker."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.integration.openai.test_tools import publish
from tests.support.responses import check_events, check_response
from tests.support.stack import eventually
from tests.support.web.openai_clients import answer, answer_tokens, client_of, new_job, success_event
from tests.support.web.webstack import TIMEOUT_S, Web, tiny_template
from webapi.keys.keys import Keys
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.events import Canceled, Event, Failed, Reasoning, Succeeded, Token, ToolCall

HELLO = "Hello\u2028 žluť 🎉"
USAGE = {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def client(web: Web) -> Iterator[OpenAI]:
    with client_of(web) as client:
        yield client


def create(client: OpenAI, **request: Any) -> Any:
    """Create a response and return it, or the list of its events for a stream."""
    made = client.responses.create(**{"model": "tiny", "input": "Hi"} | request)
    return list(made) if request.get("stream") else made


@contextmanager
def pending(web: Web, client: OpenAI, **request: Any) -> Iterator["tuple[str, Future[Any]]"]:
    """Create a response in a thread. Yield the id of its job and the future of the response."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(create, client, **request)
        yield new_job(web, future), future


def created(web: Web, client: OpenAI, **request: Any) -> Any:
    """Create a response, answer it, and return it."""
    with pending(web, client, **request) as (job_id, future):
        answer(web, job_id)
        return future.result(TIMEOUT_S)


def background(client: OpenAI, **request: Any) -> tuple[str, Any]:
    """Create a response in the background. Return the id of its job and the response."""
    made = create(client, background=True, **request)
    return made.id.removeprefix("resp_"), made


def finish(web: Web, job_id: str, *events: Event, text: str = "", reason: str = "stop") -> None:
    """Run the job to its end."""
    web.worker.claim(job_id)
    done = Succeeded({"text": text, "finish_reason": reason}, USAGE)
    web.worker.append(job_id, *events, done, usage=done.usage, result=done.result)


def test_response_is_whole_and_can_be_retrieved(web: Web, client: OpenAI) -> None:
    made = created(web, client, instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=9)
    assert (made.status, made.output_text, made.metadata) == ("completed", HELLO, {"a": "b"})
    assert (made.instructions, made.max_output_tokens) == ("Be brief.", 9)
    assert (made.usage.input_tokens, made.usage.input_tokens_details.cached_tokens) == (8, 5)
    check_response(made.to_dict())
    again = client.responses.retrieve(made.id)
    assert again.to_dict() == made.to_dict()
    items = client.responses.input_items.list(made.id).data
    assert [item.to_dict()["content"] for item in items] == [[{"type": "input_text", "text": "Hi"}]]


def test_response_streams_events_of_openai(web: Web, client: OpenAI) -> None:
    events = [event.to_dict() for event in created(web, client, stream=True)]
    response = check_events(events)
    assert response["output"][0]["content"][0]["text"] == HELLO
    assert client.responses.retrieve(response["id"]).to_dict() == response
    raw = web.http.get(f"/v1/responses/{response['id']}?stream=true").text
    assert raw.isascii()
    assert raw.startswith("event: response.created\ndata: {")


def test_background_response_answers_at_once_and_goes_on(web: Web, client: OpenAI) -> None:
    job_id, made = background(client)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    web.worker.claim(job_id)
    assert client.responses.retrieve(made.id).status == "in_progress"
    web.worker.append(job_id, *answer_tokens())
    success = success_event()
    web.worker.append(job_id, success, usage=success.usage, result=success.result)
    done = client.responses.retrieve(made.id)
    assert (done.status, done.output_text) == ("completed", HELLO)


def test_stream_goes_on_behind_any_event(web: Web, client: OpenAI) -> None:
    job_id, made = background(client)
    finish(web, job_id, Reasoning("Hm.", 0, 1), Token("A", 1, 1), Token("B", 2, 1), text="AB")
    whole = [event.to_dict() for event in client.responses.retrieve(made.id, stream=True)]
    check_events(whole)
    for after in range(len(whole)):
        rest = client.responses.retrieve(made.id, stream=True, starting_after=after)
        assert [event.to_dict() for event in rest] == whole[after + 1 :]


def test_live_stream_goes_on_behind_the_last_event(web: Web, client: OpenAI) -> None:
    stream: Any = client.responses.create(model="tiny", input="Hi", background=True, stream=True)
    job_id = next(stream).response.id.removeprefix("resp_")
    web.worker.claim(job_id)
    web.worker.append(job_id, Token("A", 0, 1))
    events = [event for event in [next(stream) for _ in range(5)] if event.sequence_number <= 5]
    stream.close()  # a response in the background goes on
    web.worker.append(job_id, Token("B", 1, 1))
    rest: Any = client.responses.retrieve(
        f"resp_{job_id}", stream=True, starting_after=events[-1].sequence_number
    )
    assert next(rest).delta == "B"
    assert web.worker.append(job_id, success_event(("A", "B"))) == "ended"
    assert [event.type for event in rest][-1] == "response.completed"


def test_disconnect_from_stream_cancels_response(web: Web, client: OpenAI) -> None:
    stream: Any = client.responses.create(model="tiny", input="Hi", stream=True)
    job_id = next(stream).response.id.removeprefix("resp_")
    stream.close()
    eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)


def test_disconnect_by_client_timeout_cancels_response(web: Web) -> None:
    with client_of(web, timeout=1) as client, pending(web, client) as (job_id, future):
        with pytest.raises(openai.APITimeoutError):
            future.result(TIMEOUT_S)
        eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)


def test_cancel_ends_response_and_is_repeatable(web: Web, client: OpenAI) -> None:
    _, made = background(client)
    for _ in range(2):
        assert client.responses.cancel(made.id).status == "cancelled"
    job_id, running = background(client)
    web.worker.claim(job_id)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.responses.cancel, running.id)
        eventually(lambda: web.worker.append(job_id) == "cancel" or None, "a cancel", TIMEOUT_S)
        web.worker.append(job_id, Canceled())
        assert future.result(TIMEOUT_S).status == "cancelled"
    types = [event.type for event in client.responses.retrieve(running.id, stream=True)]
    assert types[-1] == "response.incomplete"


def test_delete_removes_response(web: Web, client: OpenAI) -> None:
    for made in (created(web, client), background(client)[1]):
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
    assert web.ledger.page() == []


@pytest.mark.parametrize("stream", [False, True])
def test_response_that_is_not_stored_is_gone_after_its_delivery(
    web: Web, client: OpenAI, stream: bool
) -> None:
    made = created(web, client, store=False, stream=stream)
    made = made[-1].response if stream else made
    assert (made.output_text, made.store) == (HELLO, False)
    eventually(lambda: web.ledger.page() == [], "the deletion", TIMEOUT_S)


def test_response_that_is_not_stored_cannot_be_retrieved_meanwhile(web: Web, client: OpenAI) -> None:
    with pending(web, client, store=False) as (job_id, future):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(f"resp_{job_id}")
        with pytest.raises(openai.BadRequestError, match="there is no response"):
            create(client, previous_response_id=f"resp_{job_id}")
        answer(web, job_id)
        future.result(TIMEOUT_S)


def test_response_of_failed_job(web: Web, client: OpenAI) -> None:
    failed = Failed("out_of_memory", "The GPU is full.")
    with pending(web, client) as (job_id, future):
        web.worker.claim(job_id)
        web.worker.append(job_id, failed, error={"code": failed.code, "message": failed.message})
        with pytest.raises(openai.InternalServerError, match="The GPU is full"):
            future.result(TIMEOUT_S)
    response = client.responses.retrieve(f"resp_{job_id}")
    assert response.error
    assert (response.status, response.error.code) == ("failed", "server_error")
    last = [*client.responses.retrieve(response.id, stream=True)][-1]
    assert last.type == "response.failed"


def test_response_that_is_deleted_under_a_stream_ends_it_with_an_error(web: Web, client: OpenAI) -> None:
    job_id, made = background(client)
    stream: Any = client.responses.retrieve(made.id, stream=True)
    assert next(stream).type == "response.created"
    web.ledger.cancel(job_id)
    assert [event.type for event in stream] == ["response.queued", "response.incomplete"]
    web.ledger.forget(job_id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id, stream=True)


def test_previous_response_is_continued(web: Web, client: OpenAI) -> None:
    model = publish_conversational(web)
    job_id, first = background(client, model=model, input="Weather?", instructions="Be kind.", tools=[TOOL])
    call = ToolCall(0, '{"city":"Oslo"}', 1, "call_a", "weather")
    finish(web, job_id, Reasoning("Hm.", 0, 1), Token("I look.", 1, 1), call, reason="tool_calls")
    output: Any = {"type": "function_call_output", "call_id": "call_a", "output": "rain"}
    job_id, second = background(
        client, model=model, input=[output], previous_response_id=first.id, instructions="Be brief."
    )
    finish(web, job_id, Token("Rain.", 0, 1), text="Rain.")
    client.responses.delete(first.id)  # the conversation is kept with the later response
    job_id, third = background(client, model=model, input="And?", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    messages = web.ledger.get(job_id).spec.model_dump(exclude_defaults=True)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert (messages[1]["reasoning"], messages[1]["content"]) == ("Hm.", "I look.")
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo"}'
    assert [messages[n]["content"] for n in (2, 3, 4)] == ["rain", "Rain.", "And?"]


def test_previous_response_must_be_there_and_have_an_answer(web: Web, client: OpenAI) -> None:
    job_id, made = background(client)
    with pytest.raises(openai.BadRequestError, match="queued") as refused:
        create(client, previous_response_id=made.id)
    assert refused.value.param == "previous_response_id"
    for missing in ("resp_" + "0" * 32, job_id, web.submit(), "x"):
        with pytest.raises(openai.BadRequestError) as refused:
            create(client, previous_response_id=missing)
        assert refused.value.code == "previous_response_not_found"


def test_response_belongs_to_its_key(web: Web, client: OpenAI) -> None:
    keys = Keys(web.ledger.store)
    texts = [keys.create(name).text for name in ("mine", "other")]
    submitter = keys.create("submitter", scopes=["submit"]).text
    with client_of(web, api_key=texts[0]) as mine, client_of(web, api_key=texts[1]) as other:
        job_id, made = background(mine)
        finish(web, job_id, Token("A", 0, 1), text="A")
        for refuse in (other.responses.retrieve, other.responses.cancel, other.responses.delete):
            with pytest.raises(openai.NotFoundError):
                refuse(made.id)
        with pytest.raises(openai.BadRequestError):
            create(other, previous_response_id=made.id)
        assert mine.responses.retrieve(made.id).output_text == "A"
    with client_of(web, api_key=submitter) as blind:
        job_id, made = background(blind)
        finish(web, job_id, Token("A", 0, 1), text="A")
        assert blind.responses.cancel(made.id).output == []
        with pytest.raises(openai.PermissionDeniedError):
            create(blind, previous_response_id=made.id)
        with pytest.raises(openai.PermissionDeniedError):
            blind.responses.retrieve(made.id)


def publish_conversational(web: Web) -> str:
    """Publish a model that also reads earlier calls and reasoning, and return its name."""
    supports = ("tools", *SamplingParams.model_fields)
    supports += ("messages.tool_calls", "messages.tool_call_id", "messages.reasoning")
    card = ModelCard("talker", "chat", "chat.talker", 4096, digest="1", sampling=supports)
    web.registry.publish_model(card, tiny_template().to_json())
    return card.name


class City(BaseModel):
    name: str


def test_parse_and_stream_helpers_of_the_client(web: Web, client: OpenAI) -> None:
    model, text = publish(web), '{"name":"Oslo"}'
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.responses.parse, model=model, input="Where?", text_format=City)
        finish(web, new_job(web, future), Token(text, 0, 1), text=text)
        parsed = future.result(TIMEOUT_S)
    assert parsed.output_parsed == City(name="Oslo")
    with ThreadPoolExecutor(1) as pool:
        manager = client.responses.stream(model=model, input="Where?", text_format=City)
        future_stream = pool.submit(lambda: read_stream(manager))
        finish(web, new_job(web, future_stream), Token(text, 0, 1), text=text)
        assert future_stream.result(TIMEOUT_S).output_parsed == City(name="Oslo")


def read_stream(manager: Any) -> Any:
    with manager as stream:
        return stream.get_final_response()


def test_repeated_request_with_an_idempotency_key_makes_one_response(web: Web, client: OpenAI) -> None:
    headers = {"Idempotency-Key": "once"}
    ids = {background(client, extra_headers=headers)[0] for _ in range(2)}
    assert len(ids) == 1
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        background(client, extra_headers=headers, metadata={"another": "request"})


def test_response_is_refused_by_name(web: Web, client: OpenAI) -> None:
    for request, param in (
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"top_logprobs": 1}, "top_logprobs"),  # the model's engine has none
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"input": "x" * 100}, "input"),  # longer than the model's context
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            create(client, **request)
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError) as missing:
        create(client, model="gpt")
    assert missing.value.code == "model_not_found"
    for path in ("x", "resp_x", f"resp_{web.submit()}"):
        assert web.http.get(f"/v1/responses/{path}").status_code == 404
    assert web.http.get(f"/v1/responses/{background(client)[1].id}?starting_after=-1").status_code == 400
