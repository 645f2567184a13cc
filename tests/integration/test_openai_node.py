"""OpenAI's npm client, as Node runs it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.openai_clients import ANSWER, USAGE, answer, new_job, said, url_of
from tests.support.stack import eventually
from tests.support.webstack import CHAT, TIMEOUT_S, Web
from worker.jobs.events import Canceled, Failed, Succeeded

CLIENTS = Path(__file__).parents[1] / "clients"
SETTINGS = {"max_waiting": 1}

#: `make test` installs the client where there is npm.
pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="Node and npm are not installed"
)


class Conversation:
    """One run of the client."""

    def __init__(self, web: Web, scene: str, **given: Any) -> None:
        command = ["node", "openai_client.mjs", url_of(web), scene, json.dumps(given)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=CLIENTS, stdout=pipe, stderr=pipe, text=True)

    def next_status(self) -> int:
        assert self.process.stderr is not None
        return int(self.process.stderr.readline())

    def said(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0, err
        return dict(json.loads(out))

    def result(self) -> Any:
        said = self.said()
        assert "error" not in said, said
        return said["result"]


def test_an_answer(web: Web) -> None:
    client = Conversation(web, "chat")
    job_id = new_job(web)
    answer(web, job_id)
    result = client.result()
    assert result["job"] == job_id
    completion = result["completion"]
    assert completion["choices"][0]["message"]["content"] == "".join(ANSWER)
    assert (completion["choices"][0]["finish_reason"], completion["usage"]) == ("stop", USAGE)


def test_a_stream(web: Web) -> None:
    client = Conversation(web, "stream", request={"stream_options": {"include_usage": True}, "stop": ["."]})
    answer(web, new_job(web))
    *texts, end, usage = client.result()
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in texts) == "".join(ANSWER)
    assert (end["choices"][0]["finish_reason"], usage["usage"]) == ("stop", USAGE)


def test_a_client_that_leaves_its_stream_cancels_the_job(web: Web) -> None:
    client = Conversation(web, "stream", leave_after=1)
    job_id = new_job(web)
    web.worker.claim(job_id)
    web.worker.append(job_id, *said()[:1])
    assert len(client.result()) == 1
    eventually(lambda: web.worker.append(job_id) == "cancel" or None, "a cancel", TIMEOUT_S)
    web.worker.append(job_id, Canceled())
    assert web.job(job_id)["state"] == "canceled"


@pytest.mark.parametrize(
    ("request_", "name", "status", "code", "param"),
    [
        ({"n": 2}, "BadRequestError", 400, "invalid_input", "n"),
        ({"model": "gpt-5"}, "NotFoundError", 404, "model_not_found", "model"),
    ],
)
def test_a_refusal_is_the_clients_own_error(
    web: Web, request_: dict[str, Any], name: str, status: int, code: str, param: str
) -> None:
    error = Conversation(web, "chat", request=request_).said()["error"]
    assert (error["name"], error["status"], error["code"], error["param"]) == (name, status, code, param)
    assert web.is_untouched()


def test_a_failure_is_the_clients_own_error_and_not_tried_again(web: Web) -> None:
    client = Conversation(web, "chat", retries=2)
    job_id = new_job(web)
    web.worker.claim(job_id)
    web.worker.append(job_id, Failed("engine_failed", "It could not be done."))
    error = client.said()["error"]
    assert (error["name"], error["status"], error["code"]) == ("InternalServerError", 500, "engine_failed")
    assert len(web.ledger.page()) == 1


def test_a_full_queue_is_a_rate_limit_and_the_client_comes_back(web: Web) -> None:
    web.ready_worker("chat", slots=1)
    web.ledger.redis.hset(web.ledger.key("service"), CHAT, 1)
    web.worker.claim(web.submit())
    waiting = web.submit()
    assert Conversation(web, "chat").said()["error"]["name"] == "RateLimitError"
    client = Conversation(web, "chat", retries=1)
    assert client.next_status() == 429
    web.ledger.cancel(waiting)
    answer(web, new_job(web))
    assert client.result()["completion"]["choices"][0]["message"]["content"] == "".join(ANSWER)


def test_the_models(web: Web) -> None:
    result = Conversation(web, "models").result()
    assert sorted(result["ids"]) == ["matte", "tiny"]
    assert result["one"]["owned_by"] == "stoker"


def test_a_video_from_its_clip_to_its_end(web: Web, clip: bytes, tmp_path: Path) -> None:
    client = Conversation(web, "video", clip=str(tmp_path / "clip.mp4"))
    job_id = new_job(web)
    web.worker.claim(job_id)
    (web.settings.media_dir / job_id / "result.mp4").write_bytes(b"the video")
    facts = {"frames": 3, "frame_rate": "25/1", "width": 64, "height": 48}
    web.worker.append(job_id, Succeeded(facts, {}), result=facts)
    result = client.result()
    assert (result["video"]["object"], result["ended"]["status"]) == ("video", "completed")
    assert result["content"] == "the video"
    assert result["listed"] == [f"video_{job_id}"]
    assert result["deleted"] == {"id": f"video_{job_id}", "object": "video.deleted", "deleted": True}
    assert web.is_untouched()
