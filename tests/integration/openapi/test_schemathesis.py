"""Sends hundreds of requests, or thousands in `make faults`.

No response may be a 5xx, or missing in the OpenAPI document.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from tests.support.stack import eventually
from tests.support.web.uploads import write_image
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web, take_raw_prompts, token_events, upload
from webapi.keys.key import ALL_SCOPES
from webapi.keys.keys import Keys
from worker.jobs.cards import ModelCard
from worker.jobs.errors import JobNotFound
from worker.jobs.events import Batch, Canceled, Event, Failed, Succeeded
from worker.jobs.records import Record
from worker.video.model import Colour, Options, Picture, Upload

HERE = Path(__file__).parent
#: Seconds between two checks for queued jobs.
POLL_S = 0.02
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
SAMPLE = {"allocated": 1, "reserved": 1}
MEMORY = {"source": "rss", "before": SAMPLE, "after": SAMPLE, "peak_allocated": 1, "peak_reserved": 1}
VIDEO_RESULT = {"frames": 3, "width": 64, "height": 48, "frame_rate": "25/1", "content_type": "video/mp4"}


class Upscaler(Options):
    """Options of each type that a form can have."""

    strength: float = Field(0.5, ge=0, le=1)
    steps: int | None = Field(None, ge=1)
    denoise: bool = False
    mode: Literal["fast", "good"] = "fast"
    tint: Colour | Picture = "#000000"
    mask: Upload | None = None


class Finisher:
    """A worker that ends the owner's jobs: in turn with success (twice), failure and cancellation."""

    def __init__(self, web: Web, owner: str, clip: bytes) -> None:
        self._web, self._owner, self._clip = web, owner, clip
        self._ways = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
            assert self._thread.is_alive()
        finally:
            self._stop.set()
            self._thread.join(TIMEOUT_S)

    def finish(self) -> None:
        """End all jobs that are queued now."""
        for record in self._web.ledger.page(state="queued", limit=100, owner=self._owner):
            try:
                if claimed := self._web.ledger.claim(record.id, self._web.worker.name, "cpu"):
                    self._web.worker.last_events[record.id] = claimed.events
                    self._end(record, next(self._ways) % 4)
            except JobNotFound:  # its client has deleted it meanwhile
                continue

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.finish()

    def _end(self, record: Record, way: int) -> None:
        append, is_video = self._web.worker.append, record.kind == "video"
        if way == 2:
            error = {"code": "timeout", "message": "It took too long."}
            append(record.id, Failed(**error), error=error)
        elif way == 3:
            append(record.id, Canceled())
        else:
            steps: list[Event] = [Batch(0, 3, 13, 0.1, MEMORY)] if is_video else token_events(0, 2)
            result = self._video_result(record) if is_video else {"text": "Hi.", "finish_reason": "stop"}
            append(record.id, *steps, Succeeded(result, USAGE), result=result, usage=USAGE)

    def _video_result(self, record: Record) -> dict[str, object]:
        folder = self._web.settings.media_dir / record.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.mp4").write_bytes(self._clip)
        return VIDEO_RESULT | {"bytes": len(self._clip)}


def respond(web: Web) -> str:
    """Create a response in the background, and return its id."""
    response = web.http.post("/v1/responses", json={"input": "Hi", "background": True})
    return str(response.raise_for_status().json()["id"])


def upload_requests(web: Web) -> str:
    """Upload a file with the request of a batch, and return its id."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": HELLO}
    files = {"file": json.dumps(line).encode()}
    return str(web.http.post("/v1/files", data={"purpose": "batch"}, files=files).json()["id"])


def make_batch(web: Web, file_id: str) -> str:
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(web.http.post("/v1/batches", json=body).json()["id"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("phases", "examples", "requests"),
    [
        ("examples,fuzzing,stateful", 2, 100),
        pytest.param("examples,coverage,fuzzing,stateful", 15, 1500, marks=pytest.mark.long),
    ],
)
def test_schemathesis_finds_no_undocumented_response(
    web: Web, tmp_path: Path, clip: bytes, phases: str, examples: int, requests: int
) -> None:
    for kind in ("chat", "video"):
        web.ready_worker(kind)
    image = write_image(tmp_path / "image.png")
    key = Keys(web.ledger.store).create("schemathesis", scopes=ALL_SCOPES)
    web.http.headers["Authorization"] = f"Bearer {key.text}"
    finisher = Finisher(web, key.key.id, clip)
    chats = [web.submit() for _ in range(8)]
    video_jobs = [str(upload(web, clip, background=image).json()["id"]) for _ in range(8)]
    responses = [respond(web) for _ in range(16)]
    files = [upload_requests(web) for _ in range(16)]
    batches = [make_batch(web, file_id) for file_id in files[:8]]
    doomed = [web.submit() for _ in range(20)]
    doomed += [str(upload(web, clip).json()["id"]) for _ in range(20)]
    finisher.finish()
    take_raw_prompts(web)
    parameters = Upscaler.model_json_schema()
    web.registry.publish_model(ModelCard("upscaler", "video", "video.upscaler", parameters=parameters))
    eventually(lambda: "upscaler" in web.http.get("/openapi.json").text, "the model's schema", TIMEOUT_S)

    videos = video_jobs + [f"video_{job}" for job in video_jobs]
    known = {"jobs": chats + video_jobs, "videos": videos, "doomed": doomed}
    known |= {"responses": responses[:8], "doomed_responses": responses[8:]}
    known |= {"files": files[:8], "doomed_files": files[8:], "batches": batches}
    lines = [f"[dictionaries.{name}]\nvalues = {json.dumps(ids)}\n" for name, ids in known.items()]
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        "\n".join([(HERE / config.name).read_text().replace("@examples@", str(examples)), *lines])
    )
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "--config-file", str(config), "run", "--no-color"]
    command += [f"{web.http.base_url}/openapi.json", "--seed", "1", "--phases", phases]
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parents[2]),  # where the hooks are
        "SCHEMATHESIS_KEY": key.text,
        "SCHEMATHESIS_VIDEO": str(tmp_path / "clip.mp4"),
        "SCHEMATHESIS_IMAGE": str(tmp_path / "image.png"),
    }
    with finisher.running():
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    print(run.stdout)  # noqa: T201  # the report
    assert run.returncode == 0, run.stdout
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated
    assert int(generated[1]) > requests
