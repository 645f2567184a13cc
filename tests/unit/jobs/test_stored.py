"""Stored data of other versions: unknown fields change nothing, a higher major number harms one job only."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.ledger import QUEUE, append_of, card, lapse
from tests.support.web.webstack import tiny_template
from webapi.documents.chat import ChatResultDocument
from webapi.documents.jobs import JobDocument
from webapi.documents.memory import MemoryDocument
from webapi.keys.key import Key
from webapi.keys.keys import Keys
from webapi.local import state_file
from webapi.openai.completion import CompletionBuilder
from webapi.openai.translate import parse_request
from webapi.openai.video_schema import Video
from webapi.webhooks.sender import payload
from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.errors import InvalidInput, Unsupported
from worker.jobs.events import Batch, LoggedEvent, Succeeded
from worker.jobs.kinds import KINDS
from worker.jobs.ledger.appends import json_fields
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.options import MATTING_OPTIONS, options_of
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats, GpuMemory
from worker.jobs.records import Record
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, VideoJob, read_spec, validate
from worker.jobs.stored import SCHEMA, check_schema, from_json, to_json

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}], "model": "test"})
REQUEST = parse_request({"messages": [{"role": "user", "content": "Hi"}]})
VIDEO = validate(
    VideoJob, {"model": "test", "requested": {"prompt": None, "seconds": "4", "size": "8x8"}, "priority": 7}
)
#: What a newer version adds to every JSON object: a plain field, and one with an object.
NEWER = {"added": 1, "more": {"of": ["it"]}}


def grown(value: Any) -> Any:
    """Return the JSON value with the fields `NEWER` in each of its objects, at every level."""
    if isinstance(value, list):
        return [grown(each) for each in value]
    if isinstance(value, Mapping):
        return {name: grown(each) for name, each in value.items()} | NEWER
    return value


def grown_json(text: str) -> str:
    return json.dumps(grown(json.loads(text)))


def record_key(ledger: Ledger, job_id: str) -> str:
    return ledger.store.channel(job_id) + ":record"


def rewrite(ledger: Ledger, job_id: str, **fields: str) -> None:
    """Change fields of the job's stored record."""
    changes: dict[Any, str] = dict(fields)
    ledger.store.client.hset(record_key(ledger, job_id), mapping=changes)


# Every reader, with unknown fields.


@pytest.mark.parametrize("spec", [CHAT, VIDEO], ids=["chat", "video"])
def test_stored_spec_with_unknown_fields_is_the_same_job(spec: Any) -> None:
    stored = spec.model_dump_json(exclude_defaults=True)
    assert grown_json(stored).count("added") >= 2  # in the spec and in what is nested in it
    assert read_spec(type(spec), grown_json(stored)) == spec


@pytest.mark.parametrize("spec", [CHAT, VIDEO], ids=["chat", "video"])
def test_unknown_field_of_a_client_is_refused(spec: Any) -> None:
    with pytest.raises(InvalidInput, match="Extra inputs"):
        validate(type(spec), spec.model_dump(exclude_defaults=True) | NEWER)


@pytest.mark.parametrize(
    "value",
    [card("w1"), ModelCard("test", "chat", QUEUE, 64, digest="1"), tiny_template()],
    ids=["worker", "model", "prompt"],
)
def test_stored_json_with_unknown_fields_is_read(value: Any) -> None:
    text = json.dumps({**json.loads(to_json(value)), **NEWER, "schema": f"{SCHEMA}.7"})
    assert from_json(type(value), text) == value


def test_stored_worker_card_keeps_its_readings_beside_unknown_ones() -> None:
    readings = (GpuMemory("GPU-a", 1, 2, 3), GpuMemory("GPU-b", 4, 5, 6)), EngineStats(0.5, 40, 30, 2)
    full = replace(card("w1"), warmup_s=1.5, gpus=readings[0], engine_stats=readings[1])
    values = json.loads(to_json(full))
    assert from_json(WorkerCard, json.dumps({**grown(values), "schema": SCHEMA})) == replace(
        full, memory=NEWER
    )


def test_stored_json_without_schema_number_is_read() -> None:
    values = json.loads(to_json(card("w1")))
    assert values.pop("schema") == SCHEMA
    assert from_json(WorkerCard, json.dumps(values)) == card("w1")


def test_api_key_with_unknown_fields_is_read(ledger: Ledger) -> None:
    made = Keys(ledger.store).create("a")
    ledger.store.client.hset(ledger.store.key("key", made.key.id), mapping={"added": "1", "schema": "1.7"})
    assert Keys(ledger.store).check(made.text) == made.key
    assert Key.from_hash("i", {"name": "a", "created_at": "1", "scopes": "read,added"}, 2.0).state == "valid"


def test_state_file_with_unknown_fields_is_read(settings: Settings) -> None:
    state = {"pid": os.getpid(), "url": "http://h:1", "redis_url": "redis://h:2", **NEWER}
    (settings.home_dir / "up.json").write_text(json.dumps(state), "utf-8")
    followed = state_file.follow(Settings(home=settings.home))
    assert (followed.url, followed.redis_url) == ("http://h:1", "redis://h:2")


def test_event_with_unknown_fields_is_read_and_passed_on() -> None:
    text = json.dumps({"n": 1, "type": "token", "job": "j", "text": "a", **NEWER})
    event = LoggedEvent.from_json(text)
    assert (event.n, event.type, event.text, event.data["added"]) == (1, "token", text, 1)
    assert next(iter(CompletionBuilder("j", "m", 1.0, REQUEST).stream([event]))).startswith("data: ")


def test_event_of_unknown_type_is_read_and_ends_nothing() -> None:
    event = LoggedEvent.from_json('{"n": 1, "type": "added"}')
    assert not event.terminal
    builder = CompletionBuilder("j", "m", 1.0, REQUEST)
    assert list(builder.stream([event])) == list(builder.stream([]))
    assert MemoryDocument.from_events("j", [event]).batches == []


def test_documents_of_a_record_with_unknown_fields(ledger: Ledger) -> None:
    """A newer worker has run the whole job: each object in its record and its events has unknown fields."""
    ledger.submit("a", QUEUE, CHAT)
    rewrite(ledger, "a", added="1", schema=f"{SCHEMA}.7", spec=grown_json(ledger.get("a").spec_json))
    record = claimed(ledger, "a")
    assert record.spec == CHAT
    clip = {"frames": 1, "frame_rate": "1/1", "width": 8, "height": 8}
    result = grown({"text": "Hi", "finish_reason": "stop", **clip})
    usage = grown({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    sizes = {"allocated": 1, "reserved": 1}
    memory = {"source": "cpu", "before": sizes, "after": sizes, "peak_allocated": 1, "peak_reserved": 1}
    events = Batch(0, 1, 0, 0.5, grown(memory)), Succeeded(result, usage)
    fields = json_fields(result=result, usage=usage, error=grown({"code": "c", "message": "m"}))
    [reply] = ledger.append([append_of(ledger, "a", record.events + 1, events, fields)]).replies
    assert reply == "ended"
    ended = ledger.get("a")
    assert JobDocument.from_record(ended).result == result
    assert ChatResultDocument.from_record(ended).text == "Hi"
    assert json.loads(payload(ended))["type"] == "job.succeeded"
    assert Video.from_record(ended, 60).error is not None
    assert MemoryDocument.from_events("a", list(ledger.events("a"))).batches[0].frames == 1
    completion = CompletionBuilder("a", "test", 1.0, REQUEST).completion(ledger.events("a")[-1])
    assert completion.usage.total_tokens == 2


# What is stored.


@pytest.mark.parametrize("spec", [CHAT, VIDEO], ids=["chat", "video"])
def test_spec_is_stored_without_defaults_and_with_a_schema_number(ledger: Ledger, spec: Any) -> None:
    ledger.submit("a", QUEUE, spec)
    fields: Any = ledger.store.client.hgetall(record_key(ledger, "a"))
    assert fields["schema"] == SCHEMA
    assert "timeout_s" not in json.loads(fields["spec"])
    assert read_spec(type(spec), fields["spec"]) == spec


def test_job_of_adapter_has_a_schema_number_that_older_versions_refuse(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT.model_copy(update={"model": "sql"}))
    fields: Any = ledger.store.client.hgetall(record_key(ledger, "a"))
    with pytest.raises(Unsupported):
        check_schema(fields["schema"])
    record = ledger.get("a")
    assert (record.model, record.adapter, record.spec.model) == ("sql", "sql", "sql")
    ledger.submit("b", QUEUE, CHAT)
    assert (ledger.get("b").model, ledger.get("b").adapter) == ("test", "")


def test_defaults_of_stored_specs_belong_to_the_major_number() -> None:
    """A stored spec does not have them, so a change would give waiting jobs another meaning: see `SCHEMA`."""
    common = {"priority": 5, "webhook_url": None, "timeout_s": None, "max_queue_s": None, "model": None}
    chat = {"max_tokens": 256, "min_tokens": 0, "ignore_eos": False, "temperature": 1.0, "top_p": 1.0}
    video = {"pad": "last", "deinterlace": True, "odd_size": "pad"}
    defaults: dict[str, dict[str, Any]] = {
        "chat": common | chat | {"seed": None, "stop": []},
        "video": common | video | {"requested": None},
    }
    required = {"chat": {"messages": [{"role": "user", "content": "Hi"}]}, "video": {}}
    assert SCHEMA == "1"
    for kind, expected in defaults.items():
        stored = read_spec(KINDS[kind].spec, json.dumps(required[kind])).model_dump()
        assert {name: stored[name] for name in expected} == expected
    options = {option.name: option.schema["default"] for option in options_of(MATTING_OPTIONS).values()}
    assert options == {"effect": "background", "background": "#00b140"}


def test_video_spec_of_release_0_2_0_is_read_and_written() -> None:
    """Its workers read the options of the matting model beside the other fields."""
    stored = {"pad": "zeros", "effect": "blur", "background": "#010203", "background_image": True}
    spec = read_spec(VideoJob, json.dumps(stored))
    assert spec.options == {"effect": "blur", "background": "#010203"}
    assert spec.uploads == ("background",)
    assert json.loads(spec.model_dump_json(exclude_defaults=True)) == stored


def test_video_spec_keeps_options_of_every_model() -> None:
    options = {"background": True, "strength": 0.5}
    spec = VideoJob(priority=7, options=options, uploads=("background", "mask"))
    stored = spec.model_dump_json(exclude_defaults=True)
    assert read_spec(VideoJob, stored) == spec
    others = {"uploads": ["mask"], "background_image": True, "priority": 7}
    assert VideoJob.shown(json.loads(stored)) == options | others


# A higher major number, and specs that cannot be read for another reason.


@pytest.mark.parametrize("schema", [1, "1", "1.0", "1.99"])
def test_check_schema_takes_every_minor_number(schema: object) -> None:
    check_schema(schema)


@pytest.mark.parametrize("schema", ["2", "2.0", 3, "", "x", "-1", None])
def test_check_schema_refuses_higher_major_numbers(schema: object) -> None:
    with pytest.raises(Unsupported, match="schema"):
        check_schema(schema)


def claimed(ledger: Ledger, job_id: str) -> Record:
    record = ledger.claim(job_id, "w1", "cpu")
    assert record is not None
    return record


def newer_schema(ledger: Ledger, job_id: str) -> None:
    rewrite(ledger, job_id, schema="3.0", spec='["of another form"]')


def newer_value(ledger: Ledger, job_id: str) -> None:
    spec = json.loads(ledger.get(job_id).spec_json)
    spec["messages"][0]["role"] = "stranger"
    rewrite(ledger, job_id, spec=json.dumps(spec))


def newer_kind(ledger: Ledger, job_id: str) -> None:
    rewrite(ledger, job_id, kind="image")


unreadable = pytest.mark.parametrize(
    ("make_unreadable", "why"),
    [
        (newer_schema, "schema 3.0"),
        (newer_value, r"messages\.0\.role"),
        (newer_kind, "image"),
    ],
)


@unreadable
def test_unreadable_spec_harms_no_other_reader(
    brokered: Ledger, make_unreadable: Callable[[Ledger, str], None], why: str
) -> None:
    ledger = brokered
    registry, recovery = Registry(ledger.store), Recovery(Dispatcher(ledger.store))
    registry.renew(card("w1", slots=4))
    for job_id in ("a", "b"):
        ledger.submit(job_id, QUEUE, CHAT)
    make_unreadable(ledger, "a")
    record = claimed(ledger, "a")
    with pytest.raises(Unsupported, match=why):
        _ = record.spec
    claimed(ledger, "b")
    assert {each.id for each in ledger.page()} == {"a", "b"}
    assert JobDocument.from_record(ledger.get("a")).state == "running"
    assert Video.from_record(ledger.get("a"), 60).model == "test"
    assert json.loads(payload(ledger.get("a")))["data"]["id"] == "a"
    lapse(ledger, "w1")
    recovery.run_jobs_round()
    recovery.dispatch_waiting()
    recovery.resend_lost_messages()
    assert {each.state for each in ledger.page()} == {"queued"}
    assert list(Queues(ledger.store).all_info())


def test_card_with_higher_major_number_is_skipped_and_logged_once(
    ledger: Ledger, log_messages: Callable[[], list[str]]
) -> None:
    registry = Registry(ledger.store)
    registry.renew(card("w1"))
    registry.publish_model(ModelCard("test", "chat", QUEUE))
    newer = json.dumps({"schema": "2", "queue": QUEUE, "state": "ready", "slots": {"chat": 1}})
    lacking = json.dumps({"name": "w3", "queue": QUEUE, "state": "ready"})
    ledger.store.client.hset(
        ledger.store.key("worker", "cards"), mapping={"w2": newer, "w3": lacking, "w4": "[]"}
    )
    ledger.store.client.hset(ledger.store.key("models"), "chat.newer", newer)
    for _ in range(2):
        assert [each.name for each in registry.workers()] == ["w1"]
        assert [each.name for each in registry.models()] == ["test"]
    skipped = [m[1] for text in log_messages() if (m := re.match(r"the card of (\S+) is skipped", text))]
    assert skipped == ["w2", "w3", "w4", "chat.newer"]
    assert Queues(ledger.store).info(QUEUE).slots == 4


def test_prompt_template_of_higher_major_number_is_refused() -> None:
    values = json.loads(tiny_template().to_json()) | {"schema": 2}
    with pytest.raises(Unsupported, match="schema 2"):
        PromptTemplate.from_json(json.dumps(values))
