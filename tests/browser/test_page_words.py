"""Tests of the page in Chromium with a scripted worker: what it says when something is refused or away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import open_page, playwright
from tests.support.stack import eventually
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import Web, serve
from worker.jobs.cards import ModelCard
from worker.jobs.events import Failed

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

expect = playwright.expect
#: A foreign model's options, with each kind of field.
FOREIGN = {
    "type": "object",
    "$defs": {"Mode": {"enum": ["fast", "fine"], "type": "string"}},
    "properties": {
        "mode": {"$ref": "#/$defs/Mode", "default": "fine"},
        "strength": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.5,
            "description": "How much.",
        },
        "steps": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None},
        "loop": {"type": "boolean", "default": False},
        "tint": {"type": "string", "format": "color", "default": "#ff0000"},
        "mask": {"type": "string", "format": "binary", "contentMediaType": "image/*"},
        "caption": {"type": "string", "maxLength": 20},
    },
    "required": ["caption"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def web(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serve(redis_url, tmp_path_factory.mktemp("home"), max_waiting=2) as web:
        yield web


@pytest.fixture
def page(browser: Any, web: Web) -> Iterator[Any]:
    web.reset()
    web.registry.publish_model(ModelCard("foreign", "video", "video.foreign", parameters=FOREIGN))
    with open_page(browser, str(web.http.base_url).rstrip("/")) as page:
        yield page


def test_page_says_that_queue_is_full(page: Any, web: Web) -> None:
    for _ in range(2):
        web.submit()
    page.get_by_role("textbox", name="Message").fill("Hi")
    page.get_by_role("button", name="Send").click()
    alert = page.get_by_role("tabpanel", name="Chat").get_by_role("alert")
    expect(alert).to_contain_text("Try again in", timeout=60_000)
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Hi")


def test_page_shows_place_in_queue(page: Any, web: Web) -> None:
    web.submit()
    page.get_by_role("textbox", name="Message").fill("Hi")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("place 2 in the queue")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("You stopped this answer.")).to_be_visible(timeout=60_000)


def start(page: Any, clip: Path, model: str) -> None:
    page.get_by_role("tab", name="Video").click()
    page.get_by_label("Model", exact=True).last.select_option(model)
    page.get_by_label("Clip", exact=True).set_input_files(clip)
    page.get_by_role("button", name="Start").click()


def test_page_says_that_clip_is_broken(page: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no clip" * 100)
    start(page, broken, "matte")
    alert = page.locator(".run").get_by_role("alert")
    expect(alert).not_to_be_empty(timeout=60_000)
    expect(page.get_by_role("button", name="Start")).to_be_enabled()


def test_page_draws_form_of_foreign_model(page: Any, web: Web, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    start(page, tmp_path / "clip.mp4", "foreign")  # the browser itself asks for the caption
    panel = page.get_by_role("tabpanel", name="Video")
    expect(panel.get_by_label("Mode", exact=True)).to_have_value("fine")
    expect(panel.get_by_label("Strength")).to_have_attribute("max", "1")
    expect(panel.get_by_label("Steps")).to_have_attribute("step", "1")
    expect(panel.get_by_label("Tint")).to_have_attribute("type", "color")
    expect(panel.get_by_label("Mask")).to_have_attribute("accept", "image/*")
    panel.get_by_label("Caption").fill("a caption")
    panel.get_by_label("Mode", exact=True).select_option("fast")
    panel.get_by_label("Loop").check()
    panel.get_by_role("button", name="Start").click()
    expect(page.get_by_text("place 1 in the queue")).to_be_visible(timeout=60_000)
    [job] = web.http.get("/v1/jobs").json()["jobs"]
    assert job["parameters"] == {"mode": "fast", "loop": True, "caption": "a caption"}


def test_page_says_why_video_failed(page: Any, web: Web, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    start(page, tmp_path / "clip.mp4", "matte")
    expect(page.get_by_text("place 1 in the queue")).to_be_visible(timeout=60_000)
    [job] = web.http.get("/v1/jobs").json()["jobs"]
    web.worker.claim(job["id"])
    error = {"code": "out_of_memory", "message": "The model needs 9 GiB more."}
    web.worker.append(job["id"], Failed(**error), error=error)
    words = "The video failed: there was not enough memory: The model needs 9 GiB more."
    expect(page.get_by_text(words)).to_be_visible(timeout=60_000)
    page.get_by_role("tab", name="Jobs").click()
    expect(page.get_by_role("cell", name="failed: there was not enough memory")).to_be_visible(timeout=60_000)


def test_page_paints_while_api_hangs(page: Any) -> None:
    page.route("**/v1/**", lambda _: None)
    page.reload()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    painted = "performance.getEntriesByName('first-contentful-paint').length === 1"
    eventually(lambda: page.evaluate(painted), "a first paint")
    for name in ("Chat", "Video", "Jobs", "Floor"):
        page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("tabpanel", name=name)).to_contain_text("Asking the API.")
    page.unroute_all(behavior="ignoreErrors")


def test_page_says_next_step_and_loads_models_when_redis_is_back(page: Any) -> None:
    away = '{"status": 503, "code": "redis_unavailable", "detail": "Redis is away."}'
    page.route("**/v1/**", lambda route: route.fulfill(status=503, body=away))
    page.reload()
    page.get_by_role("tab", name="Video").click()
    expect(page.locator("#banner")).to_contain_text("start Redis again")
    page.unroute_all(behavior="ignoreErrors")
    expect(page.get_by_label("Caption")).to_be_visible(timeout=60_000)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.get_by_role("tabpanel", name="Video").get_by_role("alert")).to_have_count(0)
