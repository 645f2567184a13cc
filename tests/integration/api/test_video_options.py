"""Options of frame models in requests: checked by the published schema before any file is looked at."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import Field

from tests.support.stack import eventually
from tests.support.web.uploads import write_image
from tests.support.web.webstack import TIMEOUT_S, Web, assert_refused, upload
from worker.jobs.cards import ModelCard
from worker.jobs.events import Batch, Succeeded
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import VideoJob
from worker.video.model import Options, Picture, Upload

Json = dict[str, Any]

RECORDS = b'{"frame": 0, "time": 0.0, "faces": []}\n{"frame": 1, "time": 0.04, "faces": []}\n'


class FaceOptions(Options):
    """The options of a model that a foreign author has written."""

    face: Picture
    strength: float = Field(0.5, ge=0, le=1, description="How much the face\nchanges.")
    mode: Literal["fast", "good"] = "fast"
    prompt: str = ""
    sound: Upload | None = None


FACE = ModelCard("face", "video", "video.face", parameters=FaceOptions.model_json_schema())


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return write_image(tmp_path / "image.png")


@pytest.fixture
def web(web: Web) -> Iterator[Web]:
    """The API with two frame models: the matting model of release 0.2.0, and one with options of its own."""
    web.registry.publish_model(FACE)
    yield web
    web.ledger.store.client.hdel(web.ledger.store.key("models"), FACE.queue)


def test_options_reach_the_job_and_its_document(web: Web, clip: bytes, image: bytes) -> None:
    fields = {"strength": "0.25", "mode": "fast", "prompt": "a sea", "pad": "zeros"}
    response = upload(web, clip, model="face", face=image, sound=b"no picture", **fields)
    assert response.status_code == 202, response.text
    job = response.json()
    files = JobFiles.at(web.settings.media_dir, job["id"])
    assert web.ledger.get(job["id"]).spec == VideoJob(
        model="face", pad="zeros", options={"strength": 0.25, "prompt": "a sea"}, uploads=("face", "sound")
    )
    assert (files.upload("face").read_bytes(), files.upload("sound").read_bytes()) == (image, b"no picture")
    assert sorted(path.name for path in files.folder.iterdir()) == ["clip", "upload-face", "upload-sound"]
    assert (job["model"], job["parameters"]) == (
        "face",
        {"strength": 0.25, "prompt": "a sea", "pad": "zeros", "uploads": ["face", "sound"]},
    )
    kept = web.ledger.store.client.hget(web.ledger.store.key("owner", "", "file_bytes"), job["id"])
    assert kept == str(len(clip) + len(image) + len(b"no picture"))


@pytest.mark.parametrize(
    ("field", "fields", "reason"),
    [
        ("strength", {"strength": "2"}, "must be a number, at least 0, at most 1"),
        ("strength", {"strength": b"2"}, "must be a number, at least 0, at most 1, and not a file"),
        ("mode", {"mode": "best"}, "must be fast or good"),
        ("face", {"face": None}, "is missing: it must be an image file"),
        ("face", {"face": "#00b140"}, "must be an image file"),
        ("pad", {"pad": "ones"}, "'last' or 'zeros'"),
        ("effect", {"effect": "blur"}, "the options of face are face, strength, mode, prompt, sound"),
        ("mask", {"mask": b"a file"}, "the options of face are face, strength, mode, prompt, sound"),
        ("options", {"options": "{}"}, "is not a field here"),
        ("uploads", {"uploads": "face"}, "is not a field here"),
    ],
)
def test_wrong_option_is_refused_before_any_file_is_looked_at(
    web: Web, image: bytes, field: str, fields: Json, reason: str
) -> None:
    given: Json = {"face": image} | fields
    given = {name: value for name, value in given.items() if value is not None}
    detail = assert_refused(web, upload(web, b"this is no clip", model="face", **given), 422, field)
    assert reason in detail


@pytest.mark.parametrize(
    ("texts", "file", "field"),
    [
        ({"model": "face", "strength": "2"}, "file", "strength"),
        ({"model": "face", "speed": "2"}, "file", "speed"),
        ({"model": "face"}, "mode", "mode"),
        ({"model": "face"}, "mask", "mask"),
        ({"model": "nobody"}, "file", "model"),
    ],
)
def test_wrong_option_before_a_file_is_refused_before_the_file_arrives(
    web: Web, texts: dict[str, str], file: str, field: str
) -> None:
    head = "--x\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{text}\r\n' for name, text in texts.items()]
    body = "".join([*parts, f'{head}"{file}"; filename="a"\r\n\r\n{"." * 10**5}'])
    request = f"POST /v1/jobs/video HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**6}\r\n"
    request += f"Content-Type: multipart/form-data; boundary=x\r\n\r\n{body}"
    url = web.http.base_url
    with socket.create_connection((url.host, url.port), TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["field"]) == (422, field)
    assert web.is_untouched()


def test_model_may_come_after_the_files(web: Web, clip: bytes, image: bytes) -> None:
    """The options are known only then."""
    files: list[Any] = [("file", ("a", clip)), ("face", ("b", image)), ("strength", (None, "0.75"))]
    response = web.http.post("/v1/jobs/video", files=[*files, ("model", (None, "face"))])
    assert response.status_code == 202, response.text
    assert response.json()["parameters"] == {"strength": 0.75, "uploads": ["face"]}


def test_file_that_must_be_a_picture_is_looked_at(web: Web, clip: bytes) -> None:
    detail = assert_refused(web, upload(web, clip, model="face", face=b"no picture"), 422, "face")
    assert detail == "The file is not an image in a format that is read here."


def test_options_of_the_default_model_count_without_a_model(web: Web, clip: bytes, image: bytes) -> None:
    for card in web.registry.models():
        if card.name == "matte":
            web.ledger.store.client.hdel(web.ledger.store.key("models"), card.queue)
    assert upload(web, clip, face=image, strength="1").json()["parameters"]["strength"] == 1


def test_idempotency_key_covers_options_and_their_files(web: Web, clip: bytes, image: bytes) -> None:
    def submit(**fields: Any) -> httpx.Response:
        files = {"file": clip, "face": image} | {k: v for k, v in fields.items() if isinstance(v, bytes)}
        data = {"model": "face"} | {k: v for k, v in fields.items() if isinstance(v, str)}
        return web.http.post("/v1/jobs/video", data=data, files=files, headers={"Idempotency-Key": "k"})

    first = submit(strength="0.75")
    assert (first.status_code, submit(strength=" 0.750").json()["id"]) == (202, first.json()["id"])
    assert submit(strength="0.76").status_code == 422
    assert submit(strength="0.75", sound=b"other").status_code == 422


def test_openai_route_takes_options_and_ignores_others(web: Web, clip: bytes, image: bytes) -> None:
    files = {"input_reference": clip, "face": image}
    fields = {"model": "face", "prompt": "a sea", "strength": "0.75", "effect": "blur", "fps": "24"}
    response = web.http.post("/v1/videos", data=fields, files=files)
    assert (response.status_code, response.json()["prompt"]) == (200, "a sea"), response.text
    spec = web.ledger.get(response.headers["X-Stoker-Job"]).spec
    assert isinstance(spec, VideoJob)
    assert (spec.options, spec.uploads) == ({"prompt": "a sea", "strength": 0.75}, ("face",))
    wrong = web.http.post("/v1/videos", data=fields | {"strength": "2"}, files=files)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "strength")
    absent = web.http.post("/v1/videos", data=fields | {"model": "nobody"}, files=files)
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "model_not_found")


def test_models_show_their_options(web: Web) -> None:
    listed = {each["id"]: each for each in web.http.get("/v1/models").json()["data"]}
    assert listed["face"] == web.http.get("/v1/models/face").json()
    assert listed["face"]["parameters"] == FaceOptions.model_json_schema()
    assert listed["matte"]["parameters"]["properties"].keys() == {"effect", "background"}
    assert listed["tiny"]["parameters"] is None


def test_document_has_a_form_for_each_live_model(web: Web) -> None:
    def document() -> Json:
        return dict(web.http.get("/openapi.json").json())

    eventually(lambda: "face" in str(document()["paths"]["/v1/jobs/video"]), "the new model's form")
    shown = document()
    OpenAPIV31SpecValidator(shown).validate()
    for path, clip, closed in (("/v1/jobs/video", "file", True), ("/v1/videos", "input_reference", False)):
        media = shown["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
        form, encoding = OAS31Validator(media["schema"]), media["encoding"]
        assert [each["title"] for each in media["schema"]["oneOf"]] == ["face", "matte"]
        assert encoding["face"]["contentType"] == "image/*"
        assert encoding["background"]["contentType"] == "text/plain, image/*"
        assert encoding[clip]["contentType"] == "video/*"
        assert form.is_valid({clip: "", "model": "face", "face": "", "strength": 1})
        assert form.is_valid({clip: "", "model": "matte", "effect": "blur"})
        assert not form.is_valid({clip: "", "model": "face", "face": "", "strength": 2})
        assert not form.is_valid({clip: "", "model": "face"})
        assert form.is_valid({clip: "", "model": "matte", "strength": 1}) != closed
        assert not form.is_valid({"model": "matte"})


@pytest.mark.parametrize("route", ["/v1/jobs/{}/result", "/v1/videos/{}/content"])
def test_records_are_downloaded_in_their_own_type(web: Web, clip: bytes, image: bytes, route: str) -> None:
    job_id = upload(web, clip, model="face", face=image).json()["id"]
    web.worker.claim(job_id)
    files = JobFiles.at(web.settings.media_dir, job_id)
    files.records.write_bytes(RECORDS)
    facts = {"frames": 2, "bytes": len(RECORDS), "content_type": "application/x-ndjson"}
    batch = Batch(0, 2, 14, 0.5, {"source": "cpu"}, [{"frame": 0, "time": 0.0, "faces": []}])
    web.worker.append(job_id, batch, Succeeded(facts, {}), result=facts)
    events = [event.data for event in web.ledger.events(job_id)]
    assert [event.get("records") for event in events if event["type"] == "batch"] == [batch.records]
    whole = web.http.get(route.format(job_id))
    assert (whole.status_code, whole.content) == (200, RECORDS)
    assert whole.headers["Content-Type"] == "application/x-ndjson"
    assert whole.headers["Content-Disposition"] == f"inline; filename={job_id}.ndjson"
    part = web.http.get(route.format(job_id), headers={"Range": "bytes=1-7"})
    assert (part.status_code, part.content) == (206, RECORDS[1:8])
    assert part.headers["Content-Range"] == f"bytes 1-7/{len(RECORDS)}"
    video = web.http.get(f"/v1/videos/{job_id}").json()
    assert (video["status"], video["seconds"], video["size"]) == ("completed", "", "")
    files.remove_inputs()
    assert [path.name for path in files.folder.iterdir()] == ["result.ndjson"]


def test_result_of_a_type_that_only_a_newer_version_knows(web: Web, clip: bytes) -> None:
    job_id = upload(web, clip, model="matte").json()["id"]
    web.worker.claim(job_id)
    facts = {"content_type": "model/gltf-binary"}
    web.worker.append(job_id, Succeeded(facts, {}), result=facts)
    response = web.http.get(f"/v1/jobs/{job_id}/result")
    assert (response.status_code, response.json()["code"]) == (503, "unsupported")
