"""Tests of the check of webhook URLs."""

import socket
import threading

import pytest

from webapi.webhooks.destination import MAX_URL_CHARS, check_url, refusal
from worker.jobs.errors import ConfigurationError, InvalidInput
from worker.jobs.settings import Settings

STRICT, OPEN = Settings.from_env({}), Settings.from_env({"STOKER_WEBHOOK_PRIVATE": "1"})


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


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://example.com/", True), ("http://example.com:80/", True), ("https://example.com/", True),
        ("https://8.8.8.8:8443/", True), ("http://example.com:443/", True),
        ("http://example.com:22/", False), ("https://example.com:8080/", False),
        ("http://8.8.8.8:6379/", False), ("http://[2606:4700::1111]:25/", False),
    ],
)  # fmt: skip
def test_check_url_allows_web_ports_only(url: str, allowed: bool) -> None:
    if allowed:
        check_url(STRICT, url)
    else:
        with pytest.raises(InvalidInput, match=r"port \d+; STOKER_WEBHOOK_PORTS allows these: 80, 443, 8443"):
            check_url(STRICT, url)


def test_check_url_allows_ports_of_setting() -> None:
    settings = Settings.from_env({"STOKER_WEBHOOK_PORTS": "443, 9000"})
    check_url(settings, "https://example.com:9000/")
    with pytest.raises(InvalidInput, match="port 80"):
        check_url(settings, "http://example.com/")


def test_private_setting_allows_other_ports_at_private_addresses_only() -> None:
    check_url(OPEN, "http://127.0.0.1:6000/")
    check_url(OPEN, "http://name.example:6000/")  # its address is not known yet
    with pytest.raises(InvalidInput, match="port 6000"):
        check_url(OPEN, "http://8.8.8.8:6000/")
    assert refusal(OPEN, "10.0.0.1", 6000) is None
    assert refusal(OPEN, "8.8.8.8", 443) is None
    assert "port 6000" in (refusal(OPEN, "8.8.8.8", 6000) or "")
    assert "private" in (refusal(STRICT, "10.0.0.1", 443) or "")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("hooks.example.com", True), ("HOOKS.example.com", True), ("hooks.example.com.", True),
        ("a.example.org", True), ("a.b.example.org", True), ("8.8.8.8", True),
        ("example.org", False), ("aexample.org", False), ("example.org.evil.com", False),
        ("evil-hooks.example.com", False), ("example.com", False), ("8.8.4.4", False),
    ],
)  # fmt: skip
def test_check_url_allows_listed_hosts_only(host: str, allowed: bool) -> None:
    settings = Settings.from_env({"STOKER_WEBHOOK_HOSTS": "hooks.example.com, *.example.org,8.8.8.8"})
    if allowed:
        check_url(settings, f"https://{host}/hook")
    else:
        with pytest.raises(InvalidInput, match="does not send webhooks to its host: STOKER_WEBHOOK_HOSTS"):
            check_url(settings, f"https://{host}/hook")


def test_listed_host_may_still_not_be_private() -> None:
    settings = Settings.from_env({"STOKER_WEBHOOK_HOSTS": "127.0.0.1"})
    with pytest.raises(InvalidInput, match="private"):
        check_url(settings, "http://127.0.0.1/")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORTS", "0"), ("PORTS", "65536"), ("PORTS", "http"), ("PORTS", "80;443"), ("HOSTS", "*"),
        ("HOSTS", "a.*.com"), ("HOSTS", "https://a.com"), ("HOSTS", "A.com"), ("HOSTS", "a.com."),
    ],
)  # fmt: skip
def test_settings_refuse_ports_and_hosts_that_cannot_match(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"STOKER_WEBHOOK_{name}"):
        Settings.from_env({f"STOKER_WEBHOOK_{name}": value})
