"""The commands that a request sends to Redis. Each one costs a round trip before the first token."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.support.ledger import append_of
from tests.support.stack import eventually
from tests.support.web.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.openai import routes
from webapi.services import follow
from webapi.services.backend import Backend
from webapi.services.warmup import ApiWarmUp
from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.connection.primary import PrimaryOnly
from worker.jobs.events import Succeeded, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry

JOB = "a"
DONE = Succeeded({"text": "Hi", "finish_reason": "stop"}, {"completion_tokens": 1})
ASKED = {"model": "tiny", "stream": True, **HELLO}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the commands that this thread sends from now on."""
    found, thread, send = [], threading.current_thread(), PrimaryOnly.send_packed_command

    def record(self: PrimaryOnly, command: Sequence[bytes], *args: object, **options: object) -> object:
        if threading.current_thread() is thread:
            found.append(b"".join(command).split(b"\r\n")[2].decode())
        return send(self, command, *args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(PrimaryOnly, "send_packed_command", record, raising=False)
    return found


@pytest.fixture
def worker(brokered: Ledger) -> Iterator[threading.Thread]:
    """Make a worker that answers the job `JOB` with one token."""
    registry = Registry(brokered.store)
    registry.publish_model(ModelCard("tiny", "chat", CHAT, 64, digest="1"), tiny_template().to_json())
    registry.renew(WorkerCard("w1", "chat", "host", 1, "cpu", "tiny", "fake", CHAT, 1, 0, state="ready"))

    def run() -> None:
        eventually(lambda: brokered.claim(JOB, "w1", "cpu"), "the claim")
        brokered.append([append_of(brokered, JOB, 3, [Token("Hi", 0, 1), DONE], {})])

    thread = threading.Thread(target=run)
    yield thread
    thread.join()


def test_streamed_chat_sends_four_commands(
    brokered: Ledger, worker: threading.Thread, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(brokered.store.settings)
    backend: Backend = app.extensions["stoker"]
    ApiWarmUp(backend).refresh()
    monkeypatch.setattr(backend.redis_memory, "check_room", lambda: None)  # it looks once a second
    monkeypatch.setattr(routes, "new_job_id", lambda: JOB)
    monkeypatch.setattr(follow, "FIRST_EVENT_S", 20.0)  # however slow this machine is
    with backend.feed.join("other") as other, app.test_client() as client:
        assert other.get(20) is None  # the feed is connected
        client.get("/v1/models")  # so is the client, which also knows the time of Redis
        backend.store.clock.now()
        commands.clear()
        worker.start()
        answer = client.post("/v1/chat/completions", json=ASKED).get_data(as_text=True)
        sent = list(commands)
    assert '"content":"Hi"' in answer
    # The key, the events, the submit, and the end of the events.
    assert sent == ["SCARD", "SUBSCRIBE", "EVALSHA", "UNSUBSCRIBE"]
