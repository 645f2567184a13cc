"""A batch over the loss of its workers and of the API: each request is answered, once."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types import Batch

from tests.support.cluster import Cluster
from tests.support.scripted import digits_chat, expected
from tests.support.stack import eventually
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

REQUESTS = 1000
URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"
#: How many requests are answered when a process is killed.
KILLS = {150: "chat-1", 350: "web", 600: "chat-2"}


def retrieved(client: openai.OpenAI, batch: Batch) -> Batch | None:
    try:
        return client.batches.retrieve(batch.id)
    except (openai.APIConnectionError, openai.InternalServerError):  # the API is away
        return None


def answered(client: openai.OpenAI, batch: Batch) -> int:
    found = retrieved(client, batch)
    return found.request_counts.completed if found and found.request_counts else 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_batch_of_a_thousand_chats_survives_the_loss_of_workers_and_api(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, kinds=("chat",), lease_ttl_s=2, drain_s=0.5, slots=8, chat_model="scripted"
    )
    bodies = {f"id {number}": digits_chat(number) for number in range(REQUESTS)}
    lines = [{"custom_id": name, "method": "POST", "url": URL, "body": body} for name, body in bodies.items()]
    with (
        Cluster(settings, "tests.support.workers.fake") as cluster,
        openai.OpenAI(base_url=f"{cluster.settings.url}/v1", api_key="none", max_retries=0) as client,
    ):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
        for count, name in KILLS.items():
            eventually(lambda count=count: answered(client, batch) >= count, f"{count} answers", 300)  # type: ignore[misc]
            (cluster.workers | {"web": cluster.web})[name].signal(signal.SIGKILL)

        def completed() -> Batch | None:
            found = retrieved(client, batch)
            return found if found and found.status == "completed" else None

        done = eventually(completed, "the end of the batch", 300)
        output: list[dict[str, Any]] = [
            json.loads(line) for line in client.files.content(done.output_file_id or "").text.splitlines()
        ]
        attempts = Counter(record.attempt for record in cluster.ledger.page(limit=REQUESTS))
    assert not cluster.unexpected_exits
    assert not cluster.stop_errors
    assert done.request_counts
    assert done.request_counts.model_dump() == {"total": REQUESTS, "completed": REQUESTS, "failed": 0}
    assert done.error_file_id is None
    assert len(output) == REQUESTS
    found = {line["custom_id"]: line["response"]["body"] for line in output}
    assert found.keys() == bodies.keys()
    for name, body in bodies.items():
        choice, wanted = found[name]["choices"][0], expected(validate(ChatJob, body))
        assert (choice["message"]["content"], choice["finish_reason"]) == (wanted.text, wanted.finish_reason)
        assert found[name]["usage"]["completion_tokens"] == wanted.tokens
    assert sum(attempts.values()) <= REQUESTS
