"""A browser, a stack whose chat workers tell a story, and pages of it that notice every error."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import Cluster
from webapi.keys.keys import Keys
from worker.jobs.settings import Settings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
#: Milliseconds that the page gets for each step on a busy machine.
STEP_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def storytellers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The API and two chat workers, which start again when they are killed."""
    settings = Settings(
        home=tmp_path_factory.mktemp("story"), kinds=("chat",), lease_ttl_s=2, drain_s=0.5, chat_model="story"
    )
    with Cluster(settings, "tests.support.workers.storyteller") as cluster:
        yield cluster
    assert not cluster.stop_errors


@pytest.fixture(scope="module")
def key(storytellers: Cluster) -> str:
    """A key of the stack. Since there is one, the page needs it."""
    return Keys(storytellers.ledger.store).create("page").text


@contextmanager
def open_page(browser: Any, url: str, key: str | None = None, **options: Any) -> Iterator[Any]:
    """Open the page in a fresh profile, and assert at the end that nothing went wrong in it.

    No error may be in the console but those of refused requests, and no request may go to another host.
    """
    context = browser.new_context(base_url=url, **options)
    context.set_default_timeout(STEP_MS)
    if key:
        # Only where there is none: the test of wrong keys enters another one.
        context.add_init_script(f"sessionStorage['stoker.key'] ??= {key!r}")
    page = context.new_page()
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: hosts.add(urlsplit(request.url.removeprefix("blob:")).netloc))
    page.goto("/")
    try:
        yield page
    finally:
        context.close()
    assert [error for error in errors if "the server responded with a status of" not in error] == []
    assert hosts == {urlsplit(url).netloc}


@pytest.fixture
def page(browser: Any, storytellers: Cluster, key: str) -> Iterator[Any]:
    """The page with a valid key."""
    with open_page(browser, storytellers.settings.url, key) as page:
        yield page


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe, which finds barriers in a page."""
    source = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
    if not source.is_file():
        pytest.skip("npm has not installed `axe-core`")
    return source.read_text()
