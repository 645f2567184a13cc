"""Tests of the check of webhook URLs, and of the network backend that connects to public addresses only."""

import socket
import threading
from collections.abc import Iterator

import httpcore
import pytest

from webapi.webhooks.addresses import MAX_URL_CHARS, PublicOnlyBackend, check_url, is_public
from worker.jobs.errors import DeliveryFailed, InvalidInput
from worker.jobs.settings import Settings

TIMEOUT_S = 5.0
STRICT, OPEN = Settings.from_env({}), Settings.from_env({"STOKER_WEBHOOK_PRIVATE": "1"})

PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1",
    "192.0.0.1", "192.168.1.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "233.1.1.1", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1",
    "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1",
    "fd12::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public_rejects_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_is_public_accepts_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.1", "017700000001", "0", "10.1",
        "0.0.0.0", "169.254.169.254", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]",
        "[64:ff9b::7f00:1]", "localhost", "LocalHost", "localhost.", "a.localhost", "192.168.0.1:8080",
    ],
)  # fmt: skip
def test_check_url_refuses_private_hosts(host: str) -> None:
    with pytest.raises(InvalidInput, match="private") as refused:
        check_url(STRICT, f"http://{host}/hook")
    assert refused.value.field == "webhook_url"
    check_url(OPEN, f"http://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//example.com", "ftp://example.com/", "file:///etc/passwd", "http://", "http:///x",
        "http://user@example.com/", "http://user:word@example.com/", "http://127.0.0.1\\@example.com/",
        "http://example.com:0/", "http://example.com:99999/", "http://exa mple.com/", "http://example.com\n/",
        "http://%31%32%37.0.0.1/", "http://\uff11\uff12\uff17.0.0.1/", "http://[fe80::1%25lo]/", "http://\ud800/",
        "http://[::1/", "http://0177.0.0.1/", "https://example.com/" + MAX_URL_CHARS * "a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("settings", [STRICT, OPEN], ids=["strict", "open"])
def test_check_url_refuses_malformed_urls(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(settings, url)


def test_check_url_needs_no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[object] = []
    real, here = socket.getaddrinfo, threading.get_ident()

    def numbers_only(*args: object, **options: object) -> object:
        if threading.get_ident() == here:  # apps of other tests may resolve their Redis in threads
            flags.append(options.get("flags"))
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", numbers_only)
    url = check_url(STRICT, "https://Bücher.example:8443/ä?q=1#fragment")
    assert (url.raw_host, url.port, url.raw_path) == (b"xn--bcher-kva.example", 8443, b"/%C3%A4?q=1")
    check_url(STRICT, "http://8.8.8.8/")
    assert flags == [socket.AI_NUMERICHOST] * 2


class FakeNetwork:
    """A resolver with scripted answers, and sockets that only record the addresses of their connections."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.connected: list[str] = []

    def look_up(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in self.answers.pop(0)]

    def connect_tcp(self, host: str, *_: object) -> httpcore.NetworkStream:
        self.connected.append(host)
        raise httpcore.ConnectError("nobody is there")


def fake_network(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> FakeNetwork:
    network = FakeNetwork(*answers)
    monkeypatch.setattr(socket, "getaddrinfo", network.look_up)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", lambda _, host, *rest: network.connect_tcp(host))
    return network


def request(backend: PublicOnlyBackend, url: str) -> None:
    with httpcore.ConnectionPool(network_backend=backend) as pool:
        pool.request("POST", url)


def test_backend_survives_dns_rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    backend = PublicOnlyBackend(private=False, timeout_s=TIMEOUT_S)
    with pytest.raises(DeliveryFailed, match="nobody is there"):
        request(backend, "http://rebinds.example/")
    assert (fake.connected, fake.answers) == (["8.8.8.8"], [["127.0.0.1"]])  # one lookup only
    with pytest.raises(DeliveryFailed, match="private"):
        request(backend, "http://rebinds.example/")
    assert fake.connected == ["8.8.8.8"]


def test_backend_refuses_host_with_one_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8", "::ffff:10.0.0.1"])
    with pytest.raises(DeliveryFailed, match="private"):
        request(PublicOnlyBackend(private=False, timeout_s=TIMEOUT_S), "http://mixed.example/")
    assert fake.connected == []


def test_backend_tries_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_network(monkeypatch, ["8.8.8.8", "2606:4700::1111", "8.8.8.8"])
    with pytest.raises(DeliveryFailed, match="nobody is there"):
        request(PublicOnlyBackend(private=False, timeout_s=TIMEOUT_S), "http://two.example/")
    assert fake.connected == ["8.8.8.8", "2606:4700::1111"]


def test_backend_reports_unknown_host() -> None:
    with pytest.raises(DeliveryFailed, match=r"nowhere\.invalid"):
        request(PublicOnlyBackend(private=True, timeout_s=TIMEOUT_S), "http://nowhere.invalid/")


@pytest.fixture
def trickle() -> Iterator[str]:
    """The URL of a server that sends the head of its response byte by byte, without end."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.02):
                try:
                    peer.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        ended.set()
        thread.join()


def test_backend_deadline_covers_slow_response(trickle: str) -> None:
    with pytest.raises(httpcore.ReadTimeout):
        request(PublicOnlyBackend(private=True, timeout_s=0.3), trickle)
