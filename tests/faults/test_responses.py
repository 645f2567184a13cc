"""Answers that outlive the API, Redis and their worker: a response, and a chat of a conversation."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.cluster import Cluster, ManagedProcess
from tests.support.responses import check_events
from tests.support.stack import eventually
from tests.support.stand_ins import STORY
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

TEXT = "".join(f" {number}" for number in range(STORY))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("unruly")
    settings = Settings(home=home, kinds=["chat"], lease_ttl_s=2.0, drain_s=0.5, chat_model="unruly")
    with Cluster(settings, "tests.support.workers.unruly") as cluster:
        yield cluster
    assert not cluster.stop_errors


class Reader:
    """A client that reads the events of a response, and resumes behind the last one when it loses them."""

    def __init__(self, client: OpenAI, stream: Any) -> None:
        self._client, self._stream = client, stream
        self.events: list[dict[str, Any]] = []
        self.resumed = 0

    @property
    def text(self) -> str:
        return "".join(event["delta"] for event in self.events if event["type"].endswith("text.delta"))

    @property
    def ended(self) -> bool:
        return bool(self.events[-1]["type"] == "response.completed")

    def read(self, words: int = STORY + 1) -> None:
        """Read until the text has so many words, or the response ends."""
        while not (self.events and (self.ended or self.text.count(" ") >= words)):
            try:
                self.events.append(next(self._stream).to_dict())
            except (StopIteration, openai.APIError, httpx.HTTPError):
                self._stream = eventually(self._resume, "the stream again")

    def _resume(self) -> Any:
        last = self.events[-1]
        try:
            stream = self._client.responses.retrieve(
                self.events[0]["response"]["id"], stream=True, starting_after=last["sequence_number"]
            )
        except (openai.APIError, httpx.HTTPError):
            return None
        self.resumed += 1
        return stream


def kill(process: ManagedProcess) -> None:
    old, exits = process.pid, len(process.exit_codes)
    process.signal(signal.SIGKILL)
    eventually(lambda: len(process.exit_codes) > exits and process.pid != old, f"another {process.name}")


def processes_of(cluster: Cluster, job_id: str) -> list[ManagedProcess]:
    """Return the processes that the job needs: API, Redis and its worker."""
    name = cluster.ledger.get(job_id).worker
    pid = next(card.pid for card in cluster.cards() if card.name == name)
    worker = next(worker for worker in cluster.workers.values() if worker.pid == pid)
    return [cluster.web, cluster.redis_processes["redis"], worker]


def test_background_response_streams_on_over_the_loss_of_every_process(cluster: Cluster) -> None:
    url = f"{cluster.settings.url}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=90) as client:
        made: Any = client.responses.create(
            model="unruly", input="story", background=True, stream=True, max_output_tokens=2040
        )
        reader = Reader(client, made)
        reader.read(words=50)
        job_id = reader.events[0]["response"]["id"].removeprefix("resp_")
        for words, process in zip((50, 200, 400), processes_of(cluster, job_id), strict=True):
            reader.read(words)
            assert not reader.ended
            kill(process)
        reader.read()
        assert reader.resumed
        assert reader.text == TEXT
        response = check_events(reader.events)
        eventually(lambda: client.responses.retrieve(response["id"]).to_dict() == response, "the same")
        assert cluster.ledger.get(job_id).attempt == 2
        undisturbed = [each.to_dict() for each in client.responses.retrieve(response["id"], stream=True)]
        assert undisturbed == reader.events


def test_conversation_is_joined_at_its_byte_over_the_loss_of_every_process(cluster: Cluster) -> None:
    body = {"messages": [{"role": "user", "content": "story"}], "max_tokens": 2040, "stream": True}
    url, received = cluster.settings.url, bytearray()

    def read(stream: httpx.Response, size: int) -> None:
        """Read until so many bytes have come in all, or the stream ends or breaks."""
        with suppress(httpx.HTTPError):
            for part in stream.iter_raw():
                received.extend(part)
                if len(received) >= size:
                    return

    def join() -> bytes | None:
        """Read the stream behind the received bytes, and return the whole if it has come to its end."""
        with suppress(httpx.HTTPError):
            address = f"{url}/v1/stream/story?from={len(received)}"
            with httpx.stream("GET", address, timeout=90) as stream:
                if stream.status_code == 200:
                    read(stream, sys.maxsize)
        return bytes(received) if received.endswith(b"data: [DONE]\n\n") else None

    headers = {"X-Conversation-Id": "story"}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=90) as stream:
        job_id = stream.headers["X-Stoker-Job"]
        read(stream, 5000)
    for process in processes_of(cluster, job_id):
        kill(process)
    text = eventually(join, "the end of the stream")
    assert cluster.ledger.get(job_id).attempt == 2
    assert httpx.get(f"{url}/v1/stream/story").content == text
    chunks = [json.loads(line[6:]) for line in text.decode().split("\n\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == TEXT
