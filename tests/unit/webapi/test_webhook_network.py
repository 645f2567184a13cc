"""Tests of the network of webhooks: checked addresses, one lookup with a deadline, and bounded requests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpcore
import pytest

from tests.support.stack import eventually
from webapi.webhooks.lookups import Lookups
from webapi.webhooks.network import MAX_RESPONSE_BYTES, WebhookNetwork
from worker.jobs.dispatch.webhook_limits import OWNER_AT_ONCE
from worker.jobs.errors import DeliveryFailed
from worker.jobs.settings import Settings

TIMEOUT_S = 50.0
STRICT, OPEN = Settings.from_env({}), Settings.from_env({"STOKER_WEBHOOK_PRIVATE": "1"})


def network(settings: Settings = STRICT, timeout_s: float = TIMEOUT_S) -> WebhookNetwork:
    return WebhookNetwork(settings, "key1", timeout_s)


class FakeNetwork:
    """A resolver with scripted answers, and sockets that only record the addresses of their connections."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.connected: list[str] = []

    def look_up(self, host: str, port: None, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in self.answers.pop(0)]

    def connect_tcp(self, host: str, *_: object) -> httpcore.NetworkStream:
        self.connected.append(host)
        raise httpcore.ConnectError("nobody is there")


def fake_network(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> FakeNetwork:
    fake = FakeNetwork(*answers)
    monkeypatch.setattr(socket, "getaddrinfo", fake.look_up)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", lambda _, host, *rest: fake.connect_tcp(host))
    return fake


def request(backend: WebhookNetwork, url: str) -> None:
    with httpcore.ConnectionPool(network_backend=backend) as pool:
        pool.request("POST", url)


def test_network_survives_dns_rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    backend = network()
    with pytest.raises(DeliveryFailed, match="nobody is there"):
        request(backend, "http://rebinds.example/")
    assert (fake.connected, fake.answers) == (["8.8.8.8"], [["127.0.0.1"]])  # one lookup only
    with pytest.raises(DeliveryFailed, match="private"):
        request(backend, "http://rebinds.example/")
    assert fake.connected == ["8.8.8.8"]


def test_network_refuses_host_with_one_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8", "::ffff:10.0.0.1"])
    with pytest.raises(DeliveryFailed, match="private"):
        request(network(), "http://mixed.example/")
    assert fake.connected == []


def test_network_tries_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8", "2606:4700::1111", "8.8.8.8"])
    with pytest.raises(DeliveryFailed, match="nobody is there"):
        request(network(), "http://two.example/")
    assert fake.connected == ["8.8.8.8", "2606:4700::1111"]


def test_network_reports_unknown_host() -> None:
    with pytest.raises(DeliveryFailed, match=r"nowhere\.invalid"):
        request(network(OPEN), "http://nowhere.invalid/")


def test_network_refuses_other_ports_of_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8"])
    with pytest.raises(DeliveryFailed, match="port 6000"):
        request(network(OPEN), "http://public.example:6000/")
    assert fake.connected == []


class HangingResolver:
    """A resolver that answers for `known.example` only. For other names it hangs until it has ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def look_up(self, host: str, port: None, **_: object) -> list[tuple[object, ...]]:
        if host != "known.example":
            self.ended.wait()
            raise socket.gaierror("no answer")
        return [(0, 0, 0, "", ("8.8.8.8", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingResolver]:
    resolver = HangingResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.look_up)
    yield resolver
    resolver.ended.set()


@pytest.mark.usefixtures("resolver")
def test_network_gives_up_lookup_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapi.webhooks.network.LOOKUP_S", 0.01)
    with pytest.raises(DeliveryFailed, match="look-up of the name took too long"):
        request(network(), "http://hangs.example/")


def test_lookups_that_hang_do_not_delay_other_owners(resolver: HangingResolver) -> None:
    lookups = Lookups()
    for number in range(OWNER_AT_ONCE):
        with pytest.raises(DeliveryFailed, match="too long"):
            lookups.addresses(f"hangs{number}.example", "key1", timeout_s=0.001)
    with pytest.raises(DeliveryFailed, match="no answer yet"):
        lookups.addresses("known.example", "key1")
    assert lookups.addresses("known.example", "key2") == ["8.8.8.8"]
    resolver.ended.set()

    def look_up() -> list[str] | None:
        with suppress(DeliveryFailed):
            return lookups.addresses("known.example", "key1")
        return None

    assert eventually(look_up, "the end of the look-ups") == ["8.8.8.8"]


@contextmanager
def receiver(first: bytes, then: bytes) -> Iterator[str]:
    """Run a server that answers with `first` and then sends `then` every 20 ms. Yield its URL."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(TIMEOUT_S)
            peer.sendall(first)
            while not ended.wait(0.02):
                try:
                    peer.sendall(then)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"), (b"HTTP/1.1 100 Continue\r\n\r\n",) * 2],
    ids=["a head without end", "interim responses without end"],
)
def test_network_deadline_covers_slow_response(first: bytes, then: bytes) -> None:
    with receiver(first, then) as url, pytest.raises(httpcore.TimeoutException):
        request(network(OPEN, 0.3), url)


def test_network_bounds_bytes_of_response() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    flood = interim * (2 * MAX_RESPONSE_BYTES // len(interim))
    with receiver(flood, flood) as url, pytest.raises(DeliveryFailed, match="bytes"):
        request(network(OPEN), url)


def test_network_deadline_covers_request_that_is_read_slowly() -> None:
    """The receiver reads a little at a time: each part is sent in time, and the whole request is not."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            while not ended.wait(0.02):
                peer.recv(2**16)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        stream = network(OPEN, 2.0).connect_tcp("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(httpcore.TimeoutException):
            stream.write(bytes(2**26))
        ended.set()
        stream.close()
        thread.join()


def test_lookups_without_threads_leave_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookups = Lookups()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(OWNER_AT_ONCE):
            with pytest.raises(DeliveryFailed, match="can't start new thread"):
                lookups.addresses("127.0.0.1", "key1")
    assert lookups.addresses("127.0.0.1", "key1") == ["127.0.0.1"]
