"""Tests of videos on the page in Chromium, with the real matting model."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import open_page, playwright
from tests.support.assets import asset
from tests.support.cluster import Cluster
from tests.support.stack import eventually
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

expect = playwright.expect
CLIP, BLUE = "carphone_pristine.mp4", (0, 0, 255)

#: Returns the colour of a corner of the result, read from the picture that the page shows.
CORNER = """() => {
  const video = document.querySelector("[aria-label=Result]"), canvas = document.createElement("canvas");
  if (video.readyState < 2) return null;
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  return [...pen.getImageData(video.videoWidth - 8, 8, 1, 1).data].slice(0, 3);
}"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("video")
    (home / "models").symlink_to(asset("selfie_segmentation.tflite").parent)
    with Cluster(Settings(home=home, kinds=("video",)), "worker.app") as cluster:
        yield cluster


def test_page_video_shows_result_with_chosen_background(browser: Any, cluster: Cluster) -> None:
    with open_page(browser, cluster.settings.url) as page:
        page.get_by_role("tab", name="Video").click()
        page.get_by_label("Clip", exact=True).set_input_files(asset(CLIP))
        page.get_by_label("Background", exact=True).fill("#0000ff")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text(" left")).to_be_visible(timeout=120_000)
        page.reload()  # the job goes on
        expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=300_000)
        expect(page.get_by_text("8 + 8 padded")).to_be_visible()
        corner = eventually(lambda: page.evaluate(CORNER), "a picture of the result")
        assert all(abs(one - other) < 30 for one, other in zip(corner, BLUE, strict=True)), corner
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename.endswith(".mp4")
        assert download.value.path().stat().st_size > 10_000
