"""The URL of a group of servers behind Sentinels."""

import pytest

from worker.jobs.broker import celery_url
from worker.jobs.connection.sentinel_url import SentinelUrl
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings


def test_sentinel_url_names_sentinels_service_and_database() -> None:
    url = SentinelUrl.parse("sentinel://h1:26379,h2,[::1]:26381/mymaster?db=2")
    assert url is not None
    assert url.sentinels == (("h1", 26379), ("h2", 26379), ("::1", 26381))
    assert (url.service, url.tls, url.server_options) == ("mymaster", False, {"db": 2})


def test_sentinel_url_has_one_login_for_servers_and_one_for_sentinels() -> None:
    text = "sentinel://u:p%40ss@h1/m?sentinel_username=s&sentinel_password=q%26"
    url = SentinelUrl.parse(text)
    assert url is not None
    assert url.server_options == {"username": "u", "password": "p@ss"}
    assert {url.sentinel_options["username"], url.sentinel_options["password"]} == {"s", "q&"}


def test_sentinel_url_with_tls_uses_it_for_servers_and_sentinels() -> None:
    url = SentinelUrl.parse("sentinels://h1/m?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required")
    assert url is not None
    assert url.tls
    assert url.server_options == {"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "required"}
    assert url.sentinel_options["ssl"] is True
    assert url.sentinel_options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize("url", ["redis://h1:6379/0", "rediss://h1", "unix:///tmp/valkey.sock?db=0"])
def test_sentinel_url_is_none_for_one_server(url: str) -> None:
    assert SentinelUrl.parse(url) is None


@pytest.mark.parametrize("url", ["sentinel://h1:26379", "sentinel:///mymaster", "sentinel://h1:port/m"])
def test_sentinel_url_without_sentinel_or_service_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="STOKER_REDIS_URL"):
        SentinelUrl.parse(url)


def test_sentinel_url_gets_the_password_of_the_settings() -> None:
    env = {"STOKER_REDIS_URL": "sentinel://h1:26379,h2:26379/m?db=1", "STOKER_REDIS_PASSWORD": "a,b@c"}
    url = SentinelUrl.parse(Settings.from_env(env).broker_url)
    assert url is not None
    assert url.sentinels == (("h1", 26379), ("h2", 26379))
    assert url.server_options == {"password": "a,b@c", "db": 1}


def test_celery_gets_a_url_for_each_sentinel() -> None:
    url = "sentinel://u:p%2Fw@h1:26379,[::1]:26380/m?db=3"
    assert celery_url(url) == "sentinel://u:p%2Fw@h1:26379/3;sentinel://u:p%2Fw@[::1]:26380/3"
