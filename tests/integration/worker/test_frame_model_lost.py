"""Frame models of an author whose worker is killed in the middle of a job: another worker finishes it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docs import ROOT
from tests.support.stack import eventually, main_event_types
from tests.support.video.clips import gradient, is_same_clip, make_clip, read_clip
from tests.support.web.webstack import Web, serve
from webapi.local.commands import worker_argv
from webapi.local.supervisor import spawn
from worker.jobs.settings import child_env

pytestmark = [pytest.mark.slow, pytest.mark.long]

FRAMES, BATCH, SEGMENT = 120, 2, 2
#: The number of the batch after which the worker is killed. Its segment is not finished.
KILLED_AFTER = 4
#: A model with state, and one with records, and their options. Without its state, `Trail` would return
#: frames of other colours.
MODELS: dict[str, dict[str, str]] = {"Trail": {"keep": "0.9"}, "Brightness": {}}


@pytest.fixture(scope="module")
def api(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The API, and two workers of each model."""
    home = tmp_path_factory.mktemp("home")
    with serve(redis_url, home, lease_ttl_s=2, devices="cpu", drain_s=0) as web:
        processes: list[subprocess.Popen[bytes]] = []
        for name in (*MODELS, *MODELS):
            settings = web.settings.replace(
                worker="video",
                video_model=f"tests.support.video.frame_models:{name}",
                batch_size=BATCH,
                segment_batches=SEGMENT,
            )
            env = child_env(settings) | {"PYTHONPATH": str(ROOT)}
            with (home / f"{name}.log").open("ab") as log:
                processes.append(spawn(worker_argv("video", settings), env, log))
        try:
            ready = {process.pid for process in processes}
            eventually(
                lambda: ready <= {w.pid for w in web.registry.workers() if w.state == "ready"}, "workers"
            )
            yield web
        finally:
            for process in processes:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [gradient(number, 192, 144) for number in range(FRAMES)]
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", pictures)


def run(api: Web, clip: Path, model: str, target: Path, *, kill: bool) -> list[dict[str, Any]]:
    """Run the job and save its result. If `kill`, kill its worker in the middle. Return the job's events."""
    with clip.open("rb") as file:
        form = {"model": model} | MODELS[model]
        submitted = api.http.post("/v1/jobs/video", files={"file": file}, data=form)
    assert submitted.status_code == 202, submitted.text
    job_id = submitted.json()["id"]
    seen = []
    with api.events(job_id) as events:
        for event in events:
            seen.append(json.loads(event.data))
            if kill and event.event == "batch" and seen[-1]["index"] == KILLED_AFTER:
                name = api.job(job_id)["worker"]
                os.kill(next(w.pid for w in api.registry.workers() if w.name == name), signal.SIGKILL)
                kill = False
    target.write_bytes(api.http.get(f"/v1/jobs/{job_id}/result").raise_for_status().content)
    return seen


@pytest.mark.parametrize("model", MODELS)
def test_frame_model_job_of_a_killed_worker_has_the_result_of_an_undisturbed_one(
    api: Web, clip: Path, tmp_path: Path, model: str
) -> None:
    run(api, clip, model, tmp_path / "undisturbed", kill=False)
    events = run(api, clip, model, tmp_path / "killed", kill=True)
    assert [each for each in main_event_types(event["type"] for event in events) if each not in SHOWN] == [
        "queued",
        "started",
        "requeued",
        "started",
        "succeeded",
    ]
    again = [event["index"] for event in events if event["type"] == "batch" and event["attempt"] == 2]
    # The batches of the segments that the first worker has finished are not run again.
    assert again == list(range(again[0], FRAMES // BATCH))
    assert again[0] >= KILLED_AFTER // SEGMENT * SEGMENT
    made, expected = tmp_path / "killed", tmp_path / "undisturbed"
    if model == "Trail":
        assert is_same_clip(read_clip(made), read_clip(expected))
    else:
        assert made.read_bytes() == expected.read_bytes()
        assert [json.loads(line)["frame"] for line in made.read_text().splitlines()] == [*range(FRAMES)]


#: Events in the middle of an attempt.
SHOWN = ("batch", "progress")
