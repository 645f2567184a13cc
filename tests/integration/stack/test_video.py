"""Video jobs through the whole stack, with the real model and real clips."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.assets import asset
from tests.support.stack import Stack, eventually
from tests.support.web.uploads import write_image
from worker.jobs.media.files import JobFiles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def frames_of(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def video_counts(stack: Stack) -> Counter[str]:
    """Return the values of all counters of videos: by unit, and by stage in seconds."""
    families = text_string_to_metric_families(stack.http.get("/metrics").text)
    samples = [s for family in families for s in family.samples if s.name.startswith("stoker_video_")]
    return Counter({sample.labels.get("stage", sample.name): sample.value for sample in samples})


def test_video_job_replaces_background(stack: Stack, tmp_path: Path) -> None:
    clip, before_job = asset("carphone_pristine.mp4"), video_counts(stack)
    job, events = stack.finished(stack.video(clip, effect="background", background="#0000ff"))
    assert job["state"] == "succeeded", job["error"]
    assert job["progress"] == {"done": 120, "total": 120, "unit": "frames"}
    batches = [event for event in events if event["type"] == "batch"]
    assert [(b["index"], b["frames"], b["padded"]) for b in batches] == [
        *((i, 16, 0) for i in range(7)),
        (7, 8, 8),
    ]
    assert (job["usage"]["padded_frames"], job["usage"]["decoder"]) == (8, "libav")
    counted = video_counts(stack) - before_job
    units = {"frames": 120, "padded_frames": 8, "batches": 8}
    assert {unit: counted.pop(f"stoker_video_{unit}_total") for unit in units} == units
    assert counted.keys() == {"decode", "copy", "model", "encode", "store"}

    response = stack.http.get(job["links"]["result"])
    assert response.headers["content-type"] == "video/mp4"
    out = tmp_path / "out.mp4"
    out.write_bytes(response.content)
    before, after = frames_of(clip), frames_of(out)
    assert len(after) == len(before) == 120
    start = after[0].pts * after[0].time_base - before[0].pts * before[0].time_base
    for old, new in zip(before, after, strict=True):
        assert (new.width, new.height) == (old.width, old.height)
        assert new.pts * new.time_base - start == old.pts * old.time_base
    corner = after[60].to_ndarray(format="rgb24")[:8, -8:].reshape(-1, 3).mean(0)
    assert np.abs(corner - [0, 0, 255]).max() < 25

    part = stack.http.get(job["links"]["result"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, response.content[100:200])

    memory = stack.http.get(f"/v1/jobs/{job['id']}/memory").json()["batches"]
    assert [(b["first"], b["last"]) for b in memory] == [(i == 0, i == 7) for i in range(8)]
    assert memory[7]["size"] == 16
    assert all(b["source"] == "rss" and b["peak_allocated"] > 0 for b in memory)


def test_video_job_cancel_leaves_no_partial_file(stack: Stack) -> None:
    job = stack.video(asset("bigbuckbunny.mp4"), effect="blur")
    stack.until(job, "batch")
    assert stack.cancel(job).status_code == 202
    ended, events = stack.finished(job)
    assert ended["state"] == "canceled"
    assert len([event for event in events if event["type"] == "batch"]) <= 3
    folder = JobFiles.at(stack.settings.media_dir, job["id"]).folder
    # A lease later, the clip is removed as well.
    eventually(lambda: not folder.exists() or os.listdir(folder) == ["clip"], "a folder with the clip alone")
    assert stack.http.get(f"/v1/jobs/{job['id']}/result").status_code == 409


@pytest.mark.parametrize("end", [pytest.param(0.97, marks=pytest.mark.long), 0.5])
def test_video_job_fails_on_truncated_clip_and_worker_continues(
    stack: Stack, tmp_path: Path, end: float
) -> None:
    whole = asset("carphone_pristine.mp4").read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: int(len(whole) * end)])
    job, _ = stack.finished(stack.video(broken))
    assert job["state"] == "failed"
    assert job["error"]["code"] == "bad_video"
    folder = JobFiles.at(stack.settings.media_dir, job["id"]).folder
    # A lease later, the clip is removed as well.
    eventually(lambda: not folder.exists() or os.listdir(folder) == ["clip"], "a folder with the clip alone")
    good, _ = stack.finished(stack.video(asset("carphone_pristine.mp4"), effect="matte"))
    assert good["state"] == "succeeded"


@pytest.mark.long
def test_video_command_accepts_background_image(stack: Stack, tmp_path: Path) -> None:
    image = tmp_path / "beach.png"
    write_image(image)
    out = tmp_path / "out.mp4"
    done = stack.run_cli(
        "video", str(asset("carphone_pristine.mp4")), "-o", str(out), "--background", str(image)
    )
    assert done.returncode == 0, done.stderr
    assert len(frames_of(out)) == 120


def test_video_command_refuses_other_file_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    before = set(stack.settings.media_dir.iterdir())
    done = stack.run_cli("video", str(text), "-o", str(tmp_path / "out.mp4"))
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(stack.settings.media_dir.iterdir()) <= before, "files of jobs that have ended may go meanwhile"
