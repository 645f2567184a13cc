"""The frame models of the documentation: each one runs, and the first one goes all the way to a job."""

import importlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.docs import BLOCKS, ROOT, Block, lines
from tests.support.packages import install, project_of
from tests.support.stack import eventually
from tests.support.video.clips import gradient, is_same_clip, make_clip, read_clip
from tests.support.web.webstack import TIMEOUT_S, Web, serve
from worker.jobs.settings import child_env
from worker.video.model import Options
from worker.video.models.find import ENTRY_POINTS, FoundModel, find_model
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest, VideoResult

PAGE = "docs/extending.md"
FRAMES, BATCH, SEGMENT = 21, 4, 2
MODELS = [block for block in BLOCKS if "from worker.video.model import" in block.text]
#: The kind of each model's results, their number, and their size.
RESULTS = {
    "Sharpen": ("video", FRAMES, (64, 48)),
    "Enlarge": ("video", FRAMES, (128, 96)),
    "Denoise": ("video", FRAMES, (64, 48)),
    "Cuts": ("records", FRAMES, (64, 48)),
    "DoubleRate": ("video", 2 * FRAMES, (64, 48)),
}


def model_name(block: Block) -> str:
    [name] = re.findall(r"^class (\w+)\(FrameModel\)", block.text, re.MULTILINE)
    return str(name)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip with one cut, in its middle."""
    pictures = [gradient(number) for number in range(FRAMES)]
    pictures = [picture if at <= FRAMES // 2 else 255 - picture for at, picture in enumerate(pictures)]
    return make_clip(tmp_path / "clip.mp4", pictures)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for modules that Python finds."""
    before = set(sys.modules)
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


class Stopped(Exception):
    """The end of a run, as the loss of its worker."""


def run(found: FoundModel, request: VideoRequest, stop_after: int | None = None) -> VideoResult:
    def on_batch(batch: BatchDone) -> None:
        if batch.index == stop_after:
            raise Stopped

    pipeline = VideoPipeline(lambda: found, batch_size=BATCH, segment_batches=SEGMENT)
    pipeline.load()
    try:
        return pipeline.run_clip(request, on_batch=on_batch, canceled=lambda: False)
    finally:
        pipeline.close()


@pytest.mark.parametrize("block", MODELS, ids=model_name)
def test_frame_model_block_runs_and_continues_with_same_result(
    block: Block, folder: Path, tmp_path: Path, clip: Path
) -> None:
    name = model_name(block)
    (folder / f"of_{name}.py").write_text(block.text)
    found = find_model(f"of_{name}:{name}", name)
    whole = VideoRequest(clip, tmp_path / "whole.mp4", tmp_path / "work")
    result = run(found, whole)
    assert (result.kind, result.results, (result.width, result.height)) == RESULTS[name]

    broken = replace(whole, target=tmp_path / "broken.mp4", work=tmp_path / "again")
    with pytest.raises(Stopped):
        run(found, broken, 3)
    run(found, replace(broken, done=4 * BATCH))
    expected, made = (request.target_of(result.kind) for request in (whole, broken))
    if result.kind == "video":
        assert is_same_clip(read_clip(made), read_clip(expected))
    else:
        assert made.read_bytes() == expected.read_bytes()
        cuts = [record["cut"] for record in map(json.loads, made.read_text().splitlines())]
        assert cuts.index(True) == FRAMES // 2 + 1
        assert sum(cuts) == 1


def test_frame_model_blocks_are_those_with_expected_results() -> None:
    assert set(map(model_name, MODELS)) == RESULTS.keys()


def test_entry_point_block_names_the_model(folder: Path) -> None:
    install(folder, project_of(ENTRY_POINTS), sharpen=MODELS[0].text)
    importlib.invalidate_caches()
    assert find_model("sharpen", "sharpen").model.__name__ == "Sharpen"


def test_export_block_writes_a_model(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = [block for block in BLOCKS if "torch.export.save(" in block.text]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export.py").write_text(block.text)
    runpy.run_path("export.py")
    found = find_model("net.pt2", "net")
    assert found.model.Options is Options
    result = run(found, VideoRequest(clip, tmp_path / "out.mp4", tmp_path / "work"))
    assert (result.width, result.height) == (128, 96)


#: Runs the commands as they stand. `curl` also ends the script if the API refuses a request.
SHELL = """
set -euo pipefail
curl() { command curl --fail --silent --show-error "$@"; }
stoker() { "$PYTHON" -m webapi.cli "$@"; }
"""


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[Web]:
    with serve(redis_url, tmp_path / "home", lease_ttl_s=10, devices="cpu") as web:
        yield web


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_frame_model_of_thirty_lines_runs_from_its_file_to_a_finished_job(
    api: Web, clip: Path, tmp_path: Path
) -> None:
    text = (ROOT / PAGE).read_text()
    first, last = (text[: text.index(f"\n### {title}\n")].count("\n") for title in SECTIONS)
    shown = [
        line
        for block in BLOCKS
        if block.page == PAGE and first < block.line < last and block.language == "console"
        for line in lines(block)
    ]
    assert len([line for line in MODELS[0].text.splitlines() if line]) <= 30
    (tmp_path / "sharpen.py").write_text(MODELS[0].text)
    env = child_env(api.settings) | {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    env["STOKER_URL"] = str(api.http.base_url).rstrip("/")
    [start] = [line for line in shown if line.startswith("stoker worker")]
    command = [sys.executable, "-m", "webapi.cli", *start.split()[1:]]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        states = api.registry.workers
        eventually(
            lambda: [(card.model, card.state) for card in states()] == [("Sharpen", "ready")], "worker"
        )
        script = SHELL + "\n".join(line for line in shown if line != start)
        script = script.replace("localhost:8000", api.http.base_url.netloc.decode())
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "a number, at least 0, at most 4" in done.stdout
        with api.events(json.loads((tmp_path / "job.json").read_text())["id"]) as events:
            assert [*events][-1].event == "succeeded"
    finally:
        worker.kill()
        worker.wait()
    assert len(read_clip(tmp_path / "sharp.mp4").times) == FRAMES


#: The subsections whose commands run: from the first one up to the second one.
SECTIONS = ("A model in thirty lines", "Another size")
