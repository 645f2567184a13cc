"""Test of the page in Chromium while Redis is away."""

import signal
from typing import Any

import pytest

from tests.browser.conftest import playwright
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

expect = playwright.expect


def test_page_says_that_redis_is_away(page: Any, storytellers: Cluster) -> None:
    banner = page.locator("#banner")
    expect(banner).to_be_hidden()
    redis = storytellers.redis_processes["redis"]
    redis.may_restart.clear()
    try:
        redis.signal(signal.SIGKILL)
        expect(banner).to_contain_text("Redis is away.", timeout=60_000)
    finally:
        redis.may_restart.set()
    expect(banner).to_be_hidden(timeout=60_000)
