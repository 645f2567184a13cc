"""Tests that child processes ask no proxy for the addresses of this machine."""

import pytest

from worker.jobs.loopback import is_loopback, without_proxy
from worker.jobs.settings import Settings, child_env


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": ""}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": ".corp.example, localhost"}, ".corp.example,localhost,127.0.0.1,::1"),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, "a.example,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_without_proxy_keeps_hosts_of_the_user(given: dict[str, str], hosts: str) -> None:
    assert without_proxy(given) == {"no_proxy": hosts, "NO_PROXY": hosts}


def test_child_env_names_loopback_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "corp.example")
    assert child_env(Settings())["no_proxy"] == "corp.example,localhost,127.0.0.1,::1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_is_loopback_knows_addresses_and_name(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("localhost.example")
