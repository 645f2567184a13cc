"""Tests of OpenAI's npm client under Node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import ANSWER, USAGE, answer, answer_tokens, new_job, url_of
from tests.support.web.webstack import CHAT, TIMEOUT_S, Web
from worker.jobs.events import Canceled, Failed, Succeeded

CLIENTS = Path(__file__).parents[2] / "clients"
SETTINGS = {"max_waiting": 1}

#: `make test` installs the client if npm is installed.
pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="Node and npm are not installed"
)


class ClientRun:
    """One run of the script `openai_client.mjs` with the request `scene`."""

    def __init__(self, web: Web, scene: str, **given: Any) -> None:
        command = ["node", "openai_client.mjs", url_of(web), scene, json.dumps(given)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=CLIENTS, stdout=pipe, stderr=pipe, text=True)

    def next_status(self) -> int:
        assert self.process.stderr is not None
        return int(self.process.stderr.readline())

    def output(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0, err
        return dict(json.loads(out))

    def result(self) -> Any:
        output = self.output()
        assert "error" not in output, output
        return output["result"]


def test_node_client_completion(web: Web) -> None:
    client = ClientRun(web, "chat")
    job_id = new_job(web)
    answer(web, job_id)
    result = client.result()
    assert result["job"] == job_id
    completion = result["completion"]
    assert completion["choices"][0]["message"]["content"] == "".join(ANSWER)
    assert (completion["choices"][0]["finish_reason"], completion["usage"]) == ("stop", USAGE)


def test_node_client_stream(web: Web) -> None:
    client = ClientRun(web, "stream", request={"stream_options": {"include_usage": True}, "stop": ["."]})
    answer(web, new_job(web))
    *texts, end, usage = client.result()
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in texts) == "".join(ANSWER)
    assert (end["choices"][0]["finish_reason"], usage["usage"]) == ("stop", USAGE)


def test_node_client_disconnect_cancels_job(web: Web) -> None:
    client = ClientRun(web, "stream", leave_after=1)
    job_id = new_job(web)
    web.worker.claim(job_id)
    web.worker.append(job_id, *answer_tokens()[:1])
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
def test_node_client_refusal_raises_own_error(
    web: Web, request_: dict[str, Any], name: str, status: int, code: str, param: str
) -> None:
    error = ClientRun(web, "chat", request=request_).output()["error"]
    assert (error["name"], error["status"], error["code"], error["param"]) == (name, status, code, param)
    assert web.is_untouched()


def test_node_client_failure_raises_own_error_without_retry(web: Web) -> None:
    client = ClientRun(web, "chat", retries=2)
    job_id = new_job(web)
    web.worker.claim(job_id)
    web.worker.append(job_id, Failed("engine_failed", "It could not be done."))
    error = client.output()["error"]
    assert (error["name"], error["status"], error["code"]) == ("InternalServerError", 500, "engine_failed")
    assert len(web.ledger.page()) == 1


def test_node_client_retries_after_rate_limit(web: Web) -> None:
    web.ready_worker("chat", slots=1)
    web.ledger.store.client.hset(web.ledger.store.key("service"), CHAT, 1)
    web.worker.claim(web.submit())
    waiting = web.submit()
    assert ClientRun(web, "chat").output()["error"]["name"] == "RateLimitError"
    client = ClientRun(web, "chat", retries=1)
    assert client.next_status() == 429
    web.ledger.cancel(waiting)
    answer(web, new_job(web))
    assert client.result()["completion"]["choices"][0]["message"]["content"] == "".join(ANSWER)


def test_node_client_models(web: Web) -> None:
    result = ClientRun(web, "models").result()
    assert sorted(result["ids"]) == ["matte", "tiny"]
    assert result["one"]["owned_by"] == "stoker"


def test_node_client_video_lifecycle(web: Web, clip: bytes, tmp_path: Path) -> None:
    client = ClientRun(web, "video", clip=str(tmp_path / "clip.mp4"))
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
