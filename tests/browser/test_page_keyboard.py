"""Test of the page in Chromium with key presses only. The focus is visible after each of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import open_page, playwright
from tests.support.stack import eventually
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import Web, serve, token_events
from worker.jobs.cards import ModelCard

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

expect = playwright.expect

#: Returns whether a visible element has the focus, and the browser draws its outline.
FOCUS = """() => {
  const { activeElement: one, body } = document;
  return one !== body && one.matches(":focus-visible") && one.getClientRects().length > 0;
}"""


@pytest.fixture(scope="module")
def web(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serve(redis_url, tmp_path_factory.mktemp("home")) as web:
        yield web


@pytest.fixture
def page(browser: Any, web: Web) -> Iterator[Any]:
    web.reset()
    parameters = {"type": "object", "properties": {"caption": {"type": "string"}}}
    web.registry.publish_model(ModelCard("captions", "video", "video.captions", parameters=parameters))
    with open_page(browser, str(web.http.base_url).rstrip("/")) as page:
        expect(page.get_by_role("textbox", name="Message")).to_be_visible()
        yield page


def press(page: Any, key: str) -> None:
    page.keyboard.press(key)
    eventually(lambda: page.evaluate(FOCUS), f"a visible focus after {key}")


def tab_to(page: Any, target: Any, key: str = "Tab") -> None:
    """Press Tab until the element has the focus."""
    for _ in range(60):
        if target.evaluate("one => one === document.activeElement"):
            return
        press(page, key)
    raise AssertionError(f"the keyboard does not reach {target}")


def view(page: Any, name: str) -> Any:
    """Open a view with the arrow keys. Return its panel."""
    tab = page.get_by_role("tab", selected=True)
    tab_to(page, tab, "Shift+Tab")
    while page.evaluate("document.activeElement.textContent") != name:
        press(page, "ArrowRight")
    return page.get_by_role("tabpanel", name=name)


def wait_for_refreshes(page: Any) -> None:
    """Wait until the lists have been asked for twice. So the first answer has been drawn."""
    for _ in range(2):
        with page.expect_response("**/v1/queues"):
            pass


def newest_job(web: Web) -> dict[str, Any]:
    return dict(web.http.get("/v1/jobs").json()["jobs"][0])


def ask(page: Any, web: Web) -> str:
    """Send a message, and begin its answer. Return the id of the job."""
    tab_to(page, page.get_by_role("textbox", name="Message"))
    page.keyboard.type("Hi")
    press(page, "Enter")
    expect(page.get_by_text("place 1 in the queue")).to_be_visible(timeout=60_000)
    job_id = str(newest_job(web)["id"])
    web.worker.claim(job_id)
    web.worker.append(job_id, *token_events(0, 5))
    return job_id


def test_page_chat_is_asked_and_stopped_by_keyboard(page: Any, web: Web) -> None:
    ask(page, web)
    tab_to(page, page.get_by_role("button", name="Stop"))
    with page.expect_request("**/cancel"):
        press(page, "Enter")
    assert page.get_by_role("textbox", name="Message").evaluate("one => one === document.activeElement")
    tab_to(page, page.locator(".options > summary"))
    press(page, "Enter")
    tab_to(page, page.get_by_label("Seed"))


def test_page_video_is_started_and_canceled_by_keyboard(page: Any, web: Web, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    panel = view(page, "Video")
    tab_to(page, panel.get_by_label("Clip", exact=True))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "clip.mp4")
    tab_to(page, panel.get_by_label("Model", exact=True))
    page.keyboard.type("captions")
    tab_to(page, panel.get_by_label("Caption"))
    page.keyboard.type("a caption")
    start = panel.get_by_role("button", name="Start")
    tab_to(page, start)
    press(page, "Enter")
    expect(page.get_by_text("place 1 in the queue")).to_be_visible(timeout=60_000)
    expect(start).to_be_disabled()
    assert newest_job(web)["parameters"] == {"caption": "a caption"}
    tab_to(page, panel.get_by_role("button", name="Cancel"))
    press(page, "Enter")
    expect(page.get_by_text("You canceled this video.")).to_be_visible(timeout=60_000)
    press(page, "Shift+Tab")


def test_page_jobs_are_canceled_and_retried_by_keyboard(page: Any, web: Web) -> None:
    web.submit()
    job_id = str(web.submit())
    panel = view(page, "Jobs")
    row = panel.get_by_role("row").filter(has=page.locator(f'[title="{job_id}"]'))
    tab_to(page, row.get_by_role("button", name="Cancel", exact=True))
    web.submit()  # a new row above this one
    expect(panel.get_by_role("row")).to_have_count(4, timeout=60_000)
    press(page, "Enter")
    expect(row).to_contain_text("canceled", timeout=60_000)
    tab_to(page, row.get_by_role("button", name="Retry", exact=True))
    press(page, "Enter")
    expect(panel.get_by_role("row")).to_have_count(5, timeout=60_000)
    tab_to(page, row.get_by_role("button", name="Open"))
    press(page, "Enter")
    expect(page.get_by_role("dialog", name="Job")).to_be_visible()
    press(page, "Escape")
    assert row.get_by_role("button", name="Open").evaluate("one => one === document.activeElement")


def test_page_jobs_pass_focus_on_when_row_goes(page: Any, web: Web) -> None:
    web.submit()
    panel = view(page, "Jobs")
    tab_to(page, panel.get_by_label("State"))
    page.keyboard.type("queued")
    tab_to(page, panel.get_by_role("button", name="Cancel", exact=True))
    press(page, "Enter")
    expect(page.get_by_text("No job fits.")).to_be_visible(timeout=60_000)
    press(page, "Shift+Tab")


def test_page_queue_is_paused_by_keyboard(page: Any, web: Web) -> None:
    web.submit()
    panel = view(page, "Floor")
    row = panel.get_by_role("row").filter(has_text="chat.")
    tab_to(page, row.get_by_role("button", name="Pause"))
    press(page, "Enter")
    expect(row).to_contain_text("(paused)", timeout=60_000)
    resume = row.get_by_role("button", name="Resume")
    wait_for_refreshes(page)
    assert resume.evaluate("one => one === document.activeElement")
    press(page, "Enter")
    expect(row).not_to_contain_text("(paused)", timeout=60_000)
    wait_for_refreshes(page)
    press(page, "Shift+Tab")
