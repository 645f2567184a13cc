"""The check of Redis' memory before a submit."""

from pathlib import Path

import pytest

from tests.support.valkey import restartable_valkey
from tests.support.web.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.services import redis_memory
from webapi.services.redis_memory import RedisMemory
from worker.jobs.cards import ModelCard
from worker.jobs.errors import NotReady
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings


def test_submit_is_refused_before_redis_is_full(tmp_path: Path) -> None:
    with restartable_valkey(tmp_path) as server:
        ledger = Ledger(RedisStore(Settings(redis_url=f"{server.connection_url}/0", home=tmp_path)))
        Registry(ledger.store).publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
        ledger.store.client.setrange(
            "filler", 20 * 2**20, b"x"
        )  # a long value would also fill a buffer for a while
        used_bytes = ledger.store.client.info("memory")["used_memory"]
        ledger.store.client.config_set("maxmemory", int(used_bytes / 0.95))
        client = create_app(ledger.store.settings).test_client()
        answers = [client.post(path, json=HELLO) for path in ("/v1/jobs/chat", "/v1/chat/completions")]
        answers.append(client.post("/v1/jobs/video", data={"file": "clip"}))
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        assert client.get("/v1/jobs").status_code == 200
        assert ledger.page() == []
        ledger.store.close()


def test_redis_memory_looks_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, reports = RedisMemory(ledger.store), [(100, 91), (100, 89), (0, 91)]
    monkeypatch.setattr(redis_memory, "POLL_S", 0)
    monkeypatch.setattr(
        ledger.store.client,
        "info",
        lambda _: dict(zip(("maxmemory", "used_memory"), reports.pop(0), strict=True)),
    )
    with pytest.raises(NotReady):
        memory.check_room()
    memory.check_room()
    memory.check_room()
    assert reports == []
