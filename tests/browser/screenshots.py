"""Make the pictures of the page: `python -m tests.browser.screenshots`, as `make screenshots` does.

Look at each of them afterwards. The large ones are JPEG files.
"""

import re
import signal
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, open_page
from tests.support.assets import asset
from tests.support.cluster import Cluster, ManagedProcess
from tests.support.stack import eventually
from worker.jobs.settings import Settings

__all__ = ["main"]

IMAGES = Path(__file__).parents[2] / "docs/images"
CLIP = "carphone_pristine.mp4"
MOST_BYTES = 100_000
WIDE, NARROW = {"width": 1180, "height": 760}, {"width": 360, "height": 740}
QUESTION = "Tell me about the lighthouse keeper."


def main() -> None:
    """Start a stack, and write all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as driver:
        settings = Settings(home=Path(home), lease_ttl_s=2, drain_s=0.5, slots=4, chat_model="storyteller")
        (settings.home_dir / "models").symlink_to(asset("selfie_segmentation.tflite").parent)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Cluster(settings, "tests.support.workers.storyteller") as cluster:
            for theme, size in (("light", WIDE), ("dark", WIDE), ("narrow", NARROW)):
                scheme = "dark" if theme == "dark" else "light"
                options: dict[str, Any] = {"color_scheme": scheme, "viewport": size}
                with open_page(browser, cluster.settings.url, **options) as page:
                    _pictures(page, cluster, theme)


def _pictures(page: Any, cluster: Cluster, theme: str) -> None:
    cluster.wait_for_workers()
    _video(page, theme)
    page.get_by_role("tab", name="Chat").click()
    page.get_by_label("Message").fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_text("as if the number").wait_for()
    _save(page, f"chat-before-{theme}")
    idle = _kill_busy_worker(cluster)
    page.get_by_text("waiting for another worker").wait_for()
    _save(page, f"chat-during-{theme}")
    idle.signal(signal.SIGCONT)
    page.get_by_text("goes on").wait_for()
    page.get_by_role("group", name="Code, text").wait_for()
    _save(page, f"chat-after-{theme}")
    page.get_by_role("tab", name="Floor").click()
    page.get_by_role("tabpanel", name="Floor").get_by_text(re.compile("lost .* ago")).first.wait_for()
    _save(page, f"floor-{theme}")
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_text("done, 120 frames").first.wait_for()
    _save(page, f"jobs-{theme}")


def _video(page: Any, theme: str) -> None:
    page.get_by_role("tab", name="Video").click()
    page.get_by_label("Clip", exact=True).set_input_files(asset(CLIP))
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Download").wait_for()
    page.get_by_role("slider", name="Position").fill("0.5")
    shown = "[...document.querySelectorAll('video')].every((one) => one.readyState > 2)"
    eventually(lambda: page.evaluate(shown), "two pictures")
    _save(page, f"video-{theme}", full_page=True)


def _kill_busy_worker(cluster: Cluster) -> ManagedProcess:
    """Kill the chat worker that is busy. Return the other one, which is frozen and cannot take its job."""
    [job] = cluster.ledger.page("chat", "running")
    [busy] = [card.pid for card in cluster.cards() if card.name == job.worker]
    first, second = cluster.workers["chat-1"], cluster.workers["chat-2"]
    its_worker, other = (first, second) if first.pid == busy else (second, first)
    other.signal(signal.SIGSTOP)
    its_worker.signal(signal.SIGKILL)
    return other


def _save(page: Any, name: str, *, full_page: bool = False) -> None:
    jpeg = {"type": "jpeg", "quality": 70} if name.startswith(("chat-after", "video")) else {}
    path = IMAGES / f"page-{name}.{'jpg' if jpeg else 'png'}"
    page.screenshot(path=path, full_page=full_page, **jpeg)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has more than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
