"""Tests of `stoker video --set`, `stoker models show` and the options of the client."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from tests.integration.cli.test_cli_jobs import fails, stoker, with_worker
from tests.support.web.uploads import write_clip, write_image
from tests.support.web.webstack import Web
from webapi.cli.main import main
from webapi.client import ApiError, Client
from worker.jobs.cards import ModelCard
from worker.jobs.events import Progress, Succeeded
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import VideoJob
from worker.video.model import Options, Picture

RECORDS = b'{"frame": 0, "time": 0.0}\n'


class FaceOptions(Options):
    face: Picture = Field(description="Whose face it is.")
    strength: float = Field(0.5, ge=0, le=1, description="How much the face\nchanges.")
    mode: Literal["fast", "good"] = "fast"
    steps: int | None = None


@pytest.fixture
def web(server: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    server.reset()
    parameters = FaceOptions.model_json_schema()
    server.registry.publish_model(ModelCard("my face", "video", "video.my face", parameters=parameters))
    monkeypatch.setenv("STOKER_URL", str(server.http.base_url))
    return server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_clip(tmp_path / "in.mp4")
    return tmp_path / "in.mp4"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "image.png")
    return tmp_path / "image.png"


def video(clip: Path, *options: object) -> Result:
    return stoker("video", clip, "-o", clip.with_name("out.ndjson"), "--model", "my face", *options)


def test_video_sets_options_and_saves_records(web: Web, clip: Path, image: Path) -> None:
    def work(job_id: str) -> None:
        files = JobFiles.at(web.settings.media_dir, job_id)
        assert files.upload("face").read_bytes() == image.read_bytes()
        files.records.write_bytes(RECORDS)
        facts = {"frames": 3, "bytes": len(RECORDS), "content_type": "application/x-ndjson"}
        done = Progress(3, 3, "frames"), Succeeded(facts, {})
        web.worker.append(job_id, *done, done=3, total=3, result=facts)

    output = clip.with_name("out.ndjson")
    options = ["--set", "strength=0.25", "--set", f"face=@{image}", "--set", "steps=7", "--pad", "zeros"]
    result = with_worker(web, work, "video", clip, "-o", output, "--model", "my face", *options)
    assert (result.exit_code, output.read_bytes()) == (0, RECORDS), result.output
    assert web.ledger.page()[0].spec == VideoJob(
        model="my face", pad="zeros", options={"strength": 0.25, "steps": 7}, uploads=("face",)
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "strength"], "--set strength: must be KEY=VALUE, or KEY=@FILE"),
        (["--set", "=1"], "--set =1: must be KEY=VALUE, or KEY=@FILE"),
        (["--set", "face=@nowhere.png"], "--set face: there is no file nowhere.png"),
        (["--set", "face=a"], "face: must be an image file"),
        (["--set", "strength=0.75"], "face: is missing: it must be an image file"),
    ],
)
def test_video_reports_wrong_options(web: Web, clip: Path, options: list[str], sentence: str) -> None:
    fails(video(clip, *options), sentence)
    assert web.is_untouched()


def test_video_reports_a_wrong_option_by_its_name(web: Web, clip: Path, image: Path) -> None:
    result = video(clip, "--set", f"face=@{image}", "--set", "strength=2")
    fails(result, "strength: must be a number, at least 0, at most 1")


def test_models_show_prints_options_as_a_table(web: Web) -> None:
    result = stoker("models", "show", "my face")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "OPTION    VALUE                            DEFAULT   DESCRIPTION",
        "face      an image file                    required  Whose face it is.",
        "strength  a number, at least 0, at most 1  0.5       How much the face changes.",
        "mode      fast or good                     fast",
        "steps     an integer                       null",
    ]
    assert "background  a colour as #rrggbb" in stoker("models", "show", "matte").stdout
    assert json.loads(stoker("models", "show", "matte", "--json").stdout)["type"] == "object"
    assert stoker("models", "show", "tiny").stdout == "tiny has no options of its own\n"
    fails(stoker("models", "show", "nobody"), "The model 'nobody' does not exist.")


def test_models_show_is_documented_and_needs_a_name() -> None:
    assert "show NAME" in CliRunner().invoke(main, ["models", "show", "--help"]).output.replace(
        "[OPTIONS] ", ""
    )
    result = CliRunner().invoke(main, ["models", "show"])
    assert (result.exit_code, "Missing argument 'NAME'" in result.output) == (2, True)


def test_client_sends_options_of_each_type(web: Web, clip: Path, image: Path) -> None:
    with Client(str(web.http.base_url)) as client:
        assert client.model("my face")["parameters"] == FaceOptions.model_json_schema()
        options: Any = {"face": image, "strength": 0.25, "mode": "good", "steps": None}
        job = client.submit_video(clip, model="my face", options=options, priority=7)
        assert job["parameters"] == {"strength": 0.25, "mode": "good", "uploads": ["face"], "priority": 7}
        with pytest.raises(ApiError, match="background: is not a field here"):
            client.submit_video(clip, "#00b140", model="my face", options={"face": image})
