"""A real worker whose address of Redis leads to another server, while the old server goes on."""

from pathlib import Path

import redis

from tests.support.proxy import HalfOpenProxy
from tests.support.stack import eventually
from tests.support.valkey import Pair, valkey_pair
from tests.support.workers.process import QUEUE, scripted_settings, working
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "long"}], "max_tokens": 2})
WAIT_S = 30.0


def consumers(client: "redis.Redis") -> list[dict[str, str]]:
    """Return the connections that wait for a Celery message or a remote control command."""
    return [
        each
        for each in client.client_list()
        if each["cmd"] == "brpop" or int(each["sub"]) + int(each["psub"])
    ]


def fail_over(pair: Pair, proxy: HalfOpenProxy, old: "redis.Redis") -> None:
    """Promote the replica. Of the worker's connections to the old primary only those of its hub stay."""
    pair.connect()
    pair.disconnect()
    proxy.target = pair.replica.port
    hub = {each["id"] for each in consumers(old)}
    assert hub
    for each in old.client_list():
        if each["id"] not in hub and each["cmd"] != "client|list":
            old.client_kill_filter(_id=each["id"])


def test_worker_follows_address_to_new_primary(settings: Settings, tmp_path: Path) -> None:
    with valkey_pair(tmp_path) as pair, HalfOpenProxy(pair.primary.port) as proxy:
        settings = scripted_settings(settings).replace(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        old = redis.Redis(port=pair.primary.port, decode_responses=True)
        with working(settings):
            eventually(lambda: consumers(old), "a worker that consumes", WAIT_S)
            fail_over(pair, proxy, old)
            eventually(lambda: not consumers(old), "a hub that has left the old primary", WAIT_S)
            store = RedisStore(settings)
            ledger = Ledger(store)
            ledger.submit("a", QUEUE, CHAT)
            eventually(lambda: ledger.get("a").state == "succeeded", "the end of a job", WAIT_S)
            assert [card.state for card in Registry(store).live()] == ["ready"]
            store.close()
        old.close()
