"""Tests of videos on the page in Chromium, with the real models."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


#: Returns how many landmarks of the first face are drawn, how many corners of its box, and whether a pixel
#: beside it is.
DRAWN = """async () => {
  const canvas = document.querySelector(".stage canvas");
  const video = document.querySelector("[aria-label=Original]");
  const url = document.querySelector("a[download]").href;
  const job = await (await fetch(url.replace(/\\/result$/, ""))).json();
  const [face] = JSON.parse((await (await fetch(url)).text()).split("\\n")[0]).faces;
  const scale = Math.min(canvas.width / video.videoWidth, canvas.height / video.videoHeight);
  const width = video.videoWidth * scale, height = video.videoHeight * scale;
  const pen = canvas.getContext("2d");
  const isDrawn = (x, y) => pen.getImageData(
    (canvas.width - width) / 2 + (x / job.result.width) * width,
    (canvas.height - height) / 2 + (y / job.result.height) * height, 1, 1).data[3] > 0;
  const [left, top, across, down] = face.box;
  const corners = [[left, top], [left + across, top + down]].filter(([x, y]) => isDrawn(x, y));
  return [face.landmarks.filter(([x, y]) => isDrawn(x, y)).length, corners.length, isDrawn(2, 2)];
}"""

#: Returns the height of the original and of the result, where each of them is, and whether it has a picture.
SIZES = """() => [...document.querySelectorAll("video")].map(
  (one) => [one.videoHeight, one.currentTime, one.readyState])"""


@contextmanager
def serving(home: Path, model: str, file: str) -> Iterator[Cluster]:
    """A stack with one video worker of this model."""
    (home / "models").symlink_to(asset(file).parent)
    with Cluster(Settings(home=home, kinds=("video",), video_model=model), "worker.app") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("video")
    with serving(home, "selfie_segmentation", "selfie_segmentation.tflite") as cluster:
        yield cluster


def start(page: Any) -> None:
    page.get_by_role("tab", name="Video").click()
    page.get_by_label("Clip", exact=True).set_input_files(asset(CLIP))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=300_000)


def test_page_video_draws_records_over_the_frame(browser: Any, tmp_path: Path) -> None:
    """The pixels of this clip are not square, so the browser shows it wider than its frames are."""
    with (
        serving(tmp_path, "face_landmarks", "face_landmarks") as cluster,
        open_page(browser, cluster.settings.url) as page,
    ):
        start(page)
        expect(page.get_by_text("frame 0  faces 1")).to_be_visible()
        assert page.evaluate(DRAWN) == [468, 2, False]
        page.get_by_role("slider", name="Position").fill("0.6")
        expect(page.get_by_text("frame 71  faces 1")).to_be_visible()


def test_page_video_plays_result_of_double_size_in_step(browser: Any, tmp_path: Path) -> None:
    with (
        serving(tmp_path, "esrgan-slim-x2", "esrgan-slim-x2") as cluster,
        open_page(browser, cluster.settings.url) as page,
    ):
        start(page)
        page.get_by_role("button", name="Play").click()
        playing = "[...document.querySelectorAll('video')].every((one) => one.currentTime > 0.5)"
        eventually(lambda: page.evaluate(playing), "two clips that play")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("slider", name="Position").fill("0.5")
        eventually(lambda: all(ready > 1 for _, _, ready in page.evaluate(SIZES)), "two pictures")
        (height, at, _), (height_of_result, at_of_result, _) = page.evaluate(SIZES)
        assert (height, height_of_result) == (144, 288)
        assert abs(at - at_of_result) < 0.1


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
