"""Tests of the page in Chromium: chats whose worker is lost, keys, and barriers."""

import re
import signal
from typing import Any

import httpx
import pytest

from tests.browser.conftest import open_page, playwright
from tests.support.cluster import Cluster
from tests.support.stack import eventually
from tests.support.workers.story import STORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VIEWS = ("Chat", "Video", "Jobs", "Floor")
expect = playwright.expect


def ask(page: Any, question: str = "What did the keeper count?") -> None:
    page.get_by_role("textbox", name="Message").fill(question)
    page.keyboard.press("Enter")


def newest_job(cluster: Cluster, key: str) -> dict[str, Any]:
    answer = httpx.get(f"{cluster.settings.url}/v1/jobs?limit=1", headers={"Authorization": f"Bearer {key}"})
    return dict(answer.raise_for_status().json()["jobs"][0])


def kill_its_worker(cluster: Cluster, job: dict[str, Any]) -> None:
    pids = {card.name: card.pid for card in cluster.cards()}
    [worker] = [one for one in cluster.workers.values() if one.pid == pids[job["worker"]]]
    worker.signal(signal.SIGKILL)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_page_chat_goes_on_over_lost_worker_and_reload(page: Any, storytellers: Cluster, key: str) -> None:
    storytellers.wait_for_workers()
    ask(page)
    expect(page.get_by_text("climbed the stairs")).to_be_visible(timeout=60_000)
    kill_its_worker(storytellers, newest_job(storytellers, key))
    seam = page.get_by_role("note")
    expect(seam).to_contain_text("was lost", timeout=60_000)
    page.reload()
    expect(seam).to_contain_text("goes on", timeout=60_000)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    answer = page.get_by_role("article", name="Answer of story")
    shown = words(" ".join(answer.locator(".prose").all_inner_texts()))
    numbers = {
        "1",
        "2",
        "3",
        "text",
    }  # of the list, and the language of the code: both are no text of the page
    assert shown == [word for word in words(STORY) if word not in numbers]
    expect(answer.locator(".facts")).to_contain_text("attempt 2")
    expect(answer.locator("ol > li").first.locator("strong")).to_have_text("whale")


def test_page_stop_cancels_job(page: Any, storytellers: Cluster, key: str) -> None:
    ask(page)
    expect(page.get_by_text("climbed the stairs")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("You stopped this answer.")).to_be_visible(timeout=60_000)
    eventually(lambda: newest_job(storytellers, key)["state"] == "canceled", "a canceled job")


def test_page_says_that_key_is_wrong(browser: Any, storytellers: Cluster, key: str) -> None:
    with open_page(browser, storytellers.settings.url) as page:
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_contain_text("This API needs a key.")
        dialog.get_by_label("Key", exact=True).fill("sk-wrong")
        dialog.get_by_role("button", name="Use key").click()
        expect(dialog).to_contain_text("does not accept this key")
        dialog.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#view-chat")).to_contain_text("slots", timeout=60_000)


def test_page_says_why_request_is_refused(page: Any) -> None:
    page.get_by_text("Options:").click()
    page.get_by_label("Seed").fill("99999999999999999999")
    ask(page, "A question")
    expect(page.get_by_label("Seed")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("A question")


def test_page_jobs_are_live_and_can_be_canceled(page: Any) -> None:
    ask(page)
    page.get_by_role("tab", name="Jobs").click()
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("running", timeout=60_000)
    row.get_by_role("button", name="Cancel", exact=True).click()
    expect(row).to_contain_text("canceled", timeout=60_000)
    row.get_by_role("button", name="Open").click()
    dialog = page.get_by_role("dialog", name="Job")
    expect(dialog).to_contain_text("You stopped this answer.", timeout=60_000)
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_text("running, ")).to_be_visible(timeout=60_000)
    row.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("running, ")).not_to_be_visible(timeout=60_000)
    page.get_by_role("searchbox", name="Search").fill("no such job")
    expect(page.get_by_text("No job fits.")).to_be_visible()


#: Grows a text piece by piece, and returns the tags and links of what is shown, and its text.
GROW = """async ([text, step]) => {
  const { GrowingText } = await import("./page/growing.js");
  const grown = new GrowingText();
  for (let end = step; end < text.length + step; end += step) {
    grown.show(text.slice(0, end));
  }
  const nodes = [...grown.node.querySelectorAll("*")];
  const links = nodes.map((node) => node.getAttribute("href"));
  return [nodes.map((node) => node.localName), links, grown.node.textContent];
}"""


def test_page_shows_markdown_as_text_and_grows_it(page: Any) -> None:
    hostile = (
        "<img src=x onerror=alert(1)> <script>alert(2)</script>\n\n<iframe src=//x></iframe>\n\n"
        "[a](javascript:alert(3)) [b](https://example.org/ok) ![c](https://example.org/c.png) "
        "<b onclick=x>d</b>\n\n"
        "| e | f |\n|---|---|\n| 1 | 2 |\n\n- [x] g\n- h\n\n"
        "```html\n<script>i</script>\n```\n\nj &amp; k &#60;"
    )
    tags, links, text = page.evaluate(GROW, [hostile, len(hostile)])
    assert page.evaluate(GROW, [hostile, 1]) == [tags, links, text]
    assert not {"img", "script", "iframe", "b"} & set(tags)
    assert {"table", "ul", "pre"} <= set(tags)
    assert {*links} - {None} == {"https://example.org/ok", "https://example.org/c.png"}
    assert "<img src=x onerror=alert(1)>" in text
    assert "<script>i</script>" in text
    assert "j & k <" in text


def barriers(page: Any, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}" for one in serious for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_page_has_no_barriers(page: Any, axe: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    ask(page)
    expect(page.get_by_role("group", name="Code, text")).to_be_visible(timeout=60_000)
    for view in VIEWS:
        page.get_by_role("tab", name=view).click()
        assert barriers(page, axe) == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_narrow_and_opened_has_no_barriers(page: Any, axe: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    ask(page)
    expect(page.get_by_role("group", name="Code, text")).to_be_visible(timeout=60_000)
    for view in VIEWS:
        page.get_by_role("tab", name=view).click()
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert barriers(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_role("button", name="Open").first.click()
    expect(page.get_by_role("dialog", name="Job").get_by_text("first token")).to_be_visible(timeout=60_000)
    assert barriers(page, axe) == []
    page.evaluate("sessionStorage['stoker.key'] = 'sk-wrong'")
    page.reload()
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    assert barriers(page, axe) == []


@pytest.mark.long
def test_page_tabs_by_keyboard(page: Any) -> None:
    page.get_by_role("tab", name="Chat").focus()
    for view in ("Video", "Jobs", "Floor", "Chat"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tabpanel", name=view)).to_be_visible()
        assert page.evaluate("document.activeElement.textContent") == view
