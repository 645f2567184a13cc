"""The token ids that travel with a chat: their text, and how long the ledger keeps it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.ledger import QUEUE, card
from tests.support.web.webstack import tiny_template
from worker.jobs.broker import messages_key
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.prompt.packed_prompt import pack, unpack
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.specs import ChatJob, validate

TEMPLATE = tiny_template()
#: The shortest text that the ledger keeps.
LONG = "i" * 1024


def chat(**fields: Any) -> ChatJob:
    return validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]} | fields)


def submit(ledger: Ledger, job_id: str, prompt: str) -> None:
    ledger.submit(job_id, QUEUE, chat(), prompt=prompt)


def sent_records(ledger: Ledger) -> list[dict[str, str]]:
    """Return the records in the messages of the queue, the oldest first."""
    texts = ledger.store.client.lrange(messages_key(ledger.store.settings, QUEUE), 0, -1)
    return [json.loads(text)["headers"]["record"] for text in reversed(texts)]


@pytest.mark.parametrize("ids", [[0], [0, 1, 255, 256, 65_535], [65_536, 7, 2**24 - 1], [*range(70_000)]])
def test_packed_ids_are_the_same_when_unpacked(ids: list[int]) -> None:
    assert unpack(TEMPLATE, pack(TEMPLATE, chat(), ids)) == ids


def test_packed_ids_of_a_small_vocabulary_take_less_than_three_bytes_each() -> None:
    assert len(pack(TEMPLATE, chat(), [49_151] * 3000)) < 3 * 3000


def test_ids_of_another_template_or_form_are_not_used() -> None:
    text = pack(TEMPLATE, chat(), [1, 2])
    others = [
        replace(TEMPLATE, chat_template="{{ messages }}"),
        replace(TEMPLATE, control_tokens=True),
        replace(TEMPLATE, tokenizer_json="{}"),
    ]
    assert [unpack(other, text) for other in others] == [None] * len(others)
    assert [unpack(TEMPLATE, other) for other in ("", "x", f"{TEMPLATE.digest} 9 AAAA")] == [None] * 3


def test_template_that_the_api_has_read_knows_the_ids_of_the_workers_own() -> None:
    read = PromptTemplate.from_json(TEMPLATE.to_json())
    assert unpack(TEMPLATE, pack(read, chat(), [1, 2])) == [1, 2]


@pytest.mark.parametrize(
    "fields", [{"truncate_prompt_tokens": -1}, {"messages": [], "prompt": [1, 2]}], ids=["truncated", "raw"]
)
def test_ids_that_the_worker_must_make_itself_do_not_travel(fields: dict[str, Any]) -> None:
    assert pack(TEMPLATE, chat(**fields), [1, 2]) == ""


def test_ledger_keeps_token_ids_only_while_the_job_waits(ledger: Ledger) -> None:
    for job_id in ("claimed", "canceled"):
        submit(ledger, job_id, LONG)
        assert ledger.get(job_id).prompt == LONG
    record = ledger.claim("claimed", "w1", "cpu")
    assert record
    assert record.prompt == LONG
    ledger.cancel("canceled")
    assert [ledger.get(job_id).prompt for job_id in ("claimed", "canceled")] == ["", ""]
    again = ledger.claim("claimed", "w1", "cpu", claim=record.claim)
    assert again
    assert (again.attempt, again.prompt) == (1, "")


def test_token_ids_of_a_short_prompt_are_only_in_the_message_of_the_submit(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1"))
    submit(ledger, "a", LONG[1:])
    assert ledger.get("a").prompt == ""
    Queues(ledger.store).send_again("a")
    submit(ledger, "b", LONG)
    submit(ledger, "none", "")
    assert [record.get("prompt") for record in sent_records(ledger)] == [LONG[1:], None, LONG, None]
    record = ledger.claim("a", "w1", "cpu")
    assert record
    assert record.prompt == ""
