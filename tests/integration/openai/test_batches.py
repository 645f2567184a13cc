"""`/v1/files` and `/v1/batches` with OpenAI's client: answers, errors, cancel, expiry."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.support.stack import eventually
from tests.support.web.answering_worker import answering
from tests.support.web.openai_clients import client_of
from tests.support.web.webstack import Web, publish_able_model
from webapi.batches.batch_store import BatchStore
from webapi.keys.keys import Keys
from worker.jobs.records import Record

URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled", "expired")

Json = dict[str, Any]


@pytest.fixture
def client_with(web: Web) -> Iterator[Callable[[str], OpenAI]]:
    """Yield a function that returns a client with an API key. The clients are closed at the end."""
    with ExitStack() as stack:
        yield lambda api_key: stack.enter_context(client_of(web, api_key=api_key))


@pytest.fixture
def client(client_with: Callable[[str], OpenAI]) -> OpenAI:
    return client_with("none")


def line(custom_id: str, content: str, **body: Any) -> Json:
    body = {"messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}


def create(client: OpenAI, lines: Sequence[Json], **options: Any) -> Batch:
    text = "".join(json.dumps(each) + "\n" for each in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    options = {"endpoint": URL, "completion_window": "24h"} | options
    return client.batches.create(input_file_id=file.id, **options)


def finished(client: OpenAI, batch: Batch) -> Batch:
    def ended() -> Batch | None:
        found = client.batches.retrieve(batch.id)
        return found if found.status in ENDED else None

    return eventually(ended, "the end of the batch")


def lines_of(client: OpenAI, file_id: str | None) -> dict[str, Json]:
    """Return the lines of the file by their `custom_id`, which must differ."""
    if file_id is None:
        return {}
    lines = [json.loads(each) for each in client.files.content(file_id).text.splitlines()]
    found = {each["custom_id"]: each for each in lines}
    assert len(found) == len(lines)
    return found


def test_batch_answers_each_request_once(web: Web, client: OpenAI) -> None:
    web.ready_worker("chat")
    numbers = [f"chat\u2028{number}" for number in range(80)]  # more than may wait at once
    lines = [line(f"id {each}", each, max_tokens=4) for each in numbers]
    with answering(web) as runs:
        batch = create(client, lines, metadata={"name": "nightly"})
        assert (batch.status, batch.metadata) == ("validating", {"name": "nightly"})
        done = finished(client, batch)
    assert done.status == "completed"
    assert done.request_counts
    assert done.request_counts.model_dump() == {"total": 80, "completed": 80, "failed": 0}
    assert done.usage
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (240, 160, 400)
    assert done.error_file_id is None
    assert done.in_progress_at
    assert done.completed_at
    answers = lines_of(client, done.output_file_id)
    assert answers.keys() == {f"id {each}" for each in numbers}
    for each in numbers:
        answer = answers[f"id {each}"]
        assert (answer["response"]["status_code"], answer["error"]) == (200, None)
        body = openai.types.chat.ChatCompletion.model_validate(answer["response"]["body"])
        assert body.choices[0].message.content == each.upper()
        assert body.model == "tiny"
        assert answer["id"] == f"batch_req_{answer['response']['request_id']}"
    assert runs == dict.fromkeys(numbers, 1)
    output = client.files.retrieve(done.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    left = lambda: not any(web.settings.media_dir.joinpath("batches").glob("*"))  # noqa: E731
    eventually(left, "the removal of the parts")


def test_batch_puts_requests_without_an_answer_into_the_error_file(web: Web, client: OpenAI) -> None:
    web.ready_worker("chat")
    lines = [
        line("good", "Hi"),
        line("hot", "Hi", temperature=3),
        line("unknown", "Hi", model="none"),
        line("long", "x" * 100),
        line("numbered", "Hi", model=5),
        line("streamed", "Hi", stream=True),
        line("failed", "fail"),
    ]
    with answering(web):
        done = finished(client, create(client, lines))
    assert done.request_counts
    assert done.request_counts.model_dump() == {"total": 7, "completed": 1, "failed": 6}
    assert lines_of(client, done.output_file_id).keys() == {"good"}
    errors = lines_of(client, done.error_file_id)
    found = {
        name: (each["response"]["status_code"], each["response"]["body"]["error"]["code"])
        for name, each in errors.items()
    }
    assert found == {
        "hot": (400, "invalid_input"),
        "unknown": (404, "model_not_found"),
        "numbered": (400, "invalid_input"),
        "long": (400, "context_length_exceeded"),
        "streamed": (400, "invalid_input"),
        "failed": (500, "engine_failed"),
    }
    assert errors["hot"]["response"]["body"]["error"]["param"] == "temperature"


def test_batch_whose_first_model_is_no_text_goes_on(web: Web, client: OpenAI) -> None:
    web.ready_worker("chat")
    with answering(web):
        done = finished(client, create(client, [line("a", "Hi", model="\ud800"), line("b", "Hi")]))
    assert (done.status, done.model) == ("completed", None)
    assert lines_of(client, done.output_file_id).keys() == {"b"}
    assert lines_of(client, done.error_file_id)["a"]["response"]["body"]["error"]["param"] == "model"


def test_batch_answers_requests_of_other_routes(web: Web, client: OpenAI) -> None:
    model = publish_able_model(web)
    routes: dict[Any, list[Json]] = {
        "/v1/responses": [{"input": "Hi"}, {"input": "Hi", "background": True}],
        "/v1/completions": [{"prompt": "Hi"}, {"prompt": ["a", "b"]}],
    }
    found = {}
    with answering(web):
        for path, bodies in routes.items():
            named = [body | {"model": model} for body in bodies]
            lines = [line(str(n), "") | {"url": path, "body": body} for n, body in enumerate(named)]
            done = finished(client, create(client, lines, endpoint=path))
            error = lines_of(client, done.error_file_id)["1"]["response"]["body"]["error"]
            found[path] = lines_of(client, done.output_file_id)["0"]["response"]["body"], error["param"]
    response, field = found["/v1/responses"]
    assert openai.types.responses.Response.model_validate(response).output_text == "HI"
    assert field == "background"
    completion, field = found["/v1/completions"]
    assert openai.types.Completion.model_validate(completion).choices[0].text == "HI"
    assert field == "prompt"


def test_batch_with_wrong_lines_fails_and_names_them(web: Web, client: OpenAI) -> None:
    wrong = line("c", "Hi") | {"url": "/v1/embeddings"}
    lines = [line("a", "Hi"), line("a", "Hi"), wrong, line("d", "Hi") | {"method": "GET"}, {"custom_id": 5}]
    done = finished(client, create(client, lines))
    assert (done.status, done.failed_at is None) == ("failed", False)
    assert done.errors
    assert [(error.line, error.code, error.param) for error in done.errors.data or ()] == [
        (2, "duplicate_custom_id", "custom_id"),
        (3, "mismatched_url", "url"),
        (4, "invalid_method", "method"),
        (5, "invalid_custom_id", "custom_id"),
    ]
    assert web.ledger.page() == []


def test_cancel_keeps_the_answers_that_are_complete(web: Web, client: OpenAI) -> None:
    web.ready_worker("chat")
    batch = create(client, [line(f"id {number}", f"chat {number}") for number in range(100)])
    waiting = eventually(lambda: web.ledger.page(state="queued", limit=100), "jobs")
    with answering(web):
        some = lambda: (client.batches.retrieve(batch.id).request_counts or batch).completed  # type: ignore[union-attr]  # noqa: E731
        eventually(some, "answers")
    assert waiting
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = finished(client, batch)
    assert (done.status, done.cancelling_at is None, done.cancelled_at is None) == ("cancelled", False, False)
    answers, errors = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert answers
    assert answers.keys() | errors.keys() == {f"id {number}" for number in range(100)}
    assert not answers.keys() & errors.keys()
    assert done.request_counts
    assert done.request_counts.completed == len(answers)
    assert {each["error"]["code"] for each in errors.values()} <= {"batch_cancelled"}
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    assert web.ledger.page(state="queued") == []


def test_batch_expires_with_what_it_has(web: Web, client: OpenAI) -> None:
    batch = create(client, [line(f"id {number}", "Hi") for number in range(100)])
    eventually(lambda: web.ledger.page(state="queued"), "jobs")
    web.ledger.store.client.hset(web.ledger.store.key("batch", batch.id), "expires_at", 1)
    done = finished(client, batch)
    assert (done.status, done.output_file_id) == ("expired", None)
    errors = lines_of(client, done.error_file_id)
    assert len(errors) == 100
    assert {each["error"]["code"] for each in errors.values()} == {"batch_expired"}
    assert {each["response"] for each in errors.values()} == {None}


def test_batch_waits_behind_interactive_jobs_and_takes_half_of_the_keys_room(
    web: Web, client_with: Callable[[str], OpenAI]
) -> None:
    key = Keys(web.ledger.store).create("a", max_waiting=20)
    client = client_with(key.text)
    create(client, [line(f"id {number}", "Hi") for number in range(50)])

    def jobs() -> list[Record]:
        return web.ledger.page(owner=key.key.id, limit=100)

    eventually(lambda: len(jobs()) == 10, "ten jobs")
    headers = {"Authorization": f"Bearer {key.text}"}
    job = web.http.post("/v1/jobs/chat", json=line("", "Hi")["body"], headers=headers)
    assert (job.status_code, job.json()["queue_position"]) == (202, 1)
    assert len(jobs()) == 11


def test_batches_of_other_keys_do_not_exist(web: Web, client_with: Callable[[str], OpenAI]) -> None:
    mine, other = (client_with(Keys(web.ledger.store).create(name).text) for name in ("a", "b"))
    batch = create(mine, [line("a", "Hi")])
    for ask in (
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.files.retrieve(batch.input_file_id),
        lambda: other.files.content(batch.input_file_id),
        lambda: other.files.delete(batch.input_file_id),
        lambda: other.batches.create(
            input_file_id=batch.input_file_id, endpoint=URL, completion_window="24h"
        ),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert (list(other.batches.list()), list(other.files.list())) == ([], [])
    assert [each.id for each in mine.batches.list()] == [batch.id]


def test_batch_is_created_once_with_an_idempotency_key(client: OpenAI, web: Web) -> None:
    file = client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h"}
    headers = {"Idempotency-Key": "nightly"}
    first, second = (web.http.post("/v1/batches", json=body, headers=headers) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.json()["id"] == second.json()["id"]
    other = web.http.post("/v1/batches", json=body | {"metadata": {"a": "b"}}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")


def test_revoked_key_cancels_its_batches(web: Web, client_with: Callable[[str], OpenAI]) -> None:
    keys = Keys(web.ledger.store)
    key = keys.create("a")
    client = client_with(key.text)
    batch = create(client, [line(f"id {number}", "Hi") for number in range(5)])
    keys.revoke(key.key.id)
    batches = BatchStore(web.ledger.store)
    eventually(lambda: batches.get(batch.id).status == "cancelled", "the end of the batch")
