"""Deadlines on the progress of a connection."""

import errno
from collections.abc import Iterator

import gevent
import pytest
from gunicorn.http.errors import LimitRequestHeaders

from webapi.server.paced_socket import MAX_HEAD_BYTES, MIN_BYTES_PER_S, TURN_BYTES, PacedSocket
from worker.jobs.errors import ClientTooSlow

HEAD_S, STALL_S = 10.0, 60.0


class Client:
    """A client's connection. The client takes a scripted time for each operation, and the clock is its own.

    The script has seconds and bytes: what `recv` returns, or how many of them `send` sends.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.timeout: float | None = None
        self.script: Iterator[tuple[float, int]] = iter(())

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def recv(self, size: int) -> bytes:
        return b"x" * self._wait()

    def send(self, data: bytes) -> int:
        return min(self._wait(), len(data))

    def fileno(self) -> int:
        return 7

    def _wait(self) -> int:
        seconds, size = next(self.script)
        if self.timeout is not None and seconds > self.timeout:
            self.now += self.timeout
            raise TimeoutError
        self.now += seconds
        return size


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr("webapi.server.paced_socket.time.monotonic", lambda: client.now)
    return client


@pytest.fixture
def paced(client: Client) -> PacedSocket:
    return PacedSocket(client, HEAD_S, STALL_S)


def test_paced_socket_ends_late_first_head(client: Client, paced: PacedSocket) -> None:
    client.script = iter([(HEAD_S + 1, 9)])
    assert (paced.recv(8), client.now) == (b"", HEAD_S)


def test_paced_socket_ends_head_that_trickles(client: Client, paced: PacedSocket) -> None:
    client.script = iter([(3.0, 1)] * 9)
    assert [paced.recv(8) for _ in range(4)] == [b"x", b"x", b"x", b""]
    assert client.now == pytest.approx(HEAD_S)


def test_paced_socket_waits_between_requests_but_not_for_rest_of_head(
    client: Client, paced: PacedSocket
) -> None:
    paced.start_request()
    paced.end_request()
    paced.await_request()
    client.script = iter([(1000.0, 1), (HEAD_S - 1, 1), (2.0, 1)])
    assert [paced.recv(8) for _ in range(3)] == [b"x", b"x", b""]


def test_paced_socket_ends_late_rest_of_body_for_good(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    paced.end_request()
    client.script = iter([(HEAD_S - 1, 1), (2.0, 1), (0.0, 1)])
    assert [paced.recv(8) for _ in range(2)] == [b"x", b""]
    paced.await_request()
    assert paced.recv(8) == b""


def test_paced_socket_ends_late_rest_of_body_of_fast_client(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    paced.end_request()
    client.script = iter([(0.0, 1)] * 2)
    assert paced.recv(8) == b"x"
    client.now += HEAD_S
    assert paced.recv(8) == b""


@pytest.mark.parametrize("requests", [0, 3])
def test_paced_socket_refuses_long_head(client: Client, paced: PacedSocket, requests: int) -> None:
    for _ in range(requests):
        client.script = iter([(0.0, MAX_HEAD_BYTES), (0.0, 2**20), (0.0, 2**20)])
        paced.recv(8)
        paced.start_request()
        paced.recv(8)
        paced.end_request()
        paced.recv(8)
        paced.await_request()
    client.script = iter([(0.0, MAX_HEAD_BYTES), (0.0, 1)])
    paced.recv(8)
    with pytest.raises(LimitRequestHeaders):
        paced.recv(8)


def test_paced_socket_refuses_body_that_stalls(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    client.script = iter([(STALL_S + 1, 1)])
    with pytest.raises(ClientTooSlow):
        paced.recv(8)


@pytest.mark.parametrize(("rate", "ends"), [(0.5, False), (0.9, False), (1.1, True), (9.0, True)])
def test_paced_socket_requires_average_rate_of_body(
    client: Client, paced: PacedSocket, rate: float, ends: bool
) -> None:
    paced.start_request()
    client.script = iter([(10.0, int(10 * rate * MIN_BYTES_PER_S))] * 1000)
    try:
        for _ in range(1000):
            paced.recv(2**20)
        ended = True
    except ClientTooSlow:
        ended = False
    assert ended == ends


def test_paced_socket_saves_no_more_than_the_stall_timeout(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    client.script = iter([(0.0, 2**20), (STALL_S + 1, 1)])
    paced.recv(2**20)
    with pytest.raises(ClientTooSlow):
        paced.recv(8)


def test_paced_socket_gives_each_request_the_whole_stall_timeout(client: Client, paced: PacedSocket) -> None:
    client.script = iter([(STALL_S - 1, 0)] * 3)
    for _ in range(3):
        paced.start_request()
        assert paced.recv(8) == b""
        paced.end_request()
        paced.await_request()
    assert client.now == 3 * (STALL_S - 1)


def test_paced_socket_sends_all_to_slow_reader(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    size = 100 * MIN_BYTES_PER_S
    client.script = iter([(9.0, 10 * MIN_BYTES_PER_S)] * 10)
    paced.sendall(b"x" * size)
    assert client.now == 90.0


def test_paced_socket_drops_client_that_does_not_read(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    client.script = iter([(9.0, 10)] * 100)
    with pytest.raises(BrokenPipeError) as caught:
        paced.sendall(b"x" * 10_000)
    assert caught.value.errno == errno.EPIPE
    assert client.now == pytest.approx(STALL_S, abs=1)


def test_paced_socket_does_not_count_time_without_operations(client: Client, paced: PacedSocket) -> None:
    paced.start_request()
    client.script = iter([(0.0, 9)] * 3)
    for _ in range(3):
        client.now += 10 * STALL_S
        paced.sendall(b"event")


@pytest.mark.parametrize("served", ["request", "response", "rest"])
def test_paced_socket_gives_way_to_other_clients(client: Client, paced: PacedSocket, served: str) -> None:
    turns: list[str] = []

    def other() -> None:
        while turns.count("other") < 3:
            turns.append("other")
            gevent.sleep(0)

    paced.start_request()
    if served == "rest":
        paced.end_request()
    client.script = iter([(0.0, TURN_BYTES // 2)] * 6)
    gevent.spawn(other)
    for _ in range(6):
        turns.append("block")
        if served == "response":
            paced.send(bytes(TURN_BYTES))
        else:
            paced.recv(TURN_BYTES)
    assert turns == ["block", "block", "other"] * 3


def test_paced_socket_has_the_other_methods_of_the_connection(paced: PacedSocket) -> None:
    assert paced.fileno() == 7
