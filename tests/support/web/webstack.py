"""The real app under real gunicorn, with a scripted worker instead of a real one."""

import json
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tests.support.web.scripted_worker import ScriptedWorker
from webapi.local.commands import web_argv
from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.chat.sampling import COMMON_PARAMETERS, SamplingParams
from worker.jobs.events import Event, Token
from worker.jobs.kinds import model_of
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.settings import Settings, child_env

CHAT, VIDEO = "chat.tiny", "video.matte"
CONTEXT_LENGTH = 64
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
#: Seconds that any step of a test gets on a busy machine.
TIMEOUT_S = 50
#: Seconds that a server gets to start on a busy machine.
START_S = 90


def publish_able_model(web: "Web") -> str:
    """Publish a chat model that supports all sampling parameters, and return its name."""
    parameters = (*SamplingParams.model_fields, "prompt")
    card = ModelCard("able", "chat", "chat.able", CONTEXT_LENGTH, digest="1", sampling=parameters)
    web.registry.publish_model(card, tiny_template().to_json())
    return card.name


def take_raw_prompts(web: "Web") -> None:
    """Publish that the only chat model supports raw prompts."""
    supported = (*COMMON_PARAMETERS, "prompt")
    web.registry.publish_model(
        ModelCard("tiny", "chat", CHAT, CONTEXT_LENGTH, digest="1", sampling=supported)
    )


def tiny_template() -> PromptTemplate:
    """Return a template with a real tokenizer that knows no words, so every character is one token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PromptTemplate(tokenizer.to_str(), TEMPLATE)


@dataclass
class Web:
    """A running API, its ledger, a client of it and a scripted worker."""

    settings: Settings
    ledger: Ledger
    http: httpx.Client
    worker: ScriptedWorker
    process: "subprocess.Popen[bytes]"

    @property
    def registry(self) -> Registry:
        return Registry(self.ledger.store)

    def submit(self, **changes: Any) -> str:
        """Submit the chat `HELLO` with these changes and return the job's id."""
        response = self.http.post("/v1/jobs/chat", json=HELLO | changes)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job's document."""
        return dict(self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json())

    @contextmanager
    def events(
        self, job_id: str, headers: dict[str, str] | None = None, **params: Any
    ) -> Iterator[Iterator[ServerSentEvent]]:
        """Open the job's event stream on a connection of its own, and yield its events."""
        url = f"/v1/jobs/{job_id}/events"
        with (
            httpx.Client(base_url=self.http.base_url, timeout=TIMEOUT_S) as client,
            connect_sse(client, "GET", url, headers=headers or {}, params=params) as source,
        ):
            assert source.response.status_code == 200
            yield source.iter_sse()

    def subscribers(self, job_id: str) -> int:
        """Return the number of Redis subscriptions to the job's channel."""
        return int(self.ledger.store.client.pubsub_numsub(self.ledger.store.channel(job_id))[0][1])

    def is_untouched(self) -> bool:
        """Return whether there are neither jobs nor files."""
        media = self.settings.media_dir
        return self.ledger.page() == [] and not (media.exists() and list(media.iterdir()))

    def reset(self) -> None:
        """Delete all jobs, files and keys, and publish the models again."""
        self.http.headers.pop("Authorization", None)
        shutil.rmtree(self.settings.media_dir, ignore_errors=True)
        keys = list(self.ledger.store.client.scan_iter(f"{self.settings.prefix}:*", count=1000))
        if keys:
            self.ledger.store.client.delete(*keys)
        template = tiny_template()
        chat = ModelCard("tiny", "chat", CHAT, CONTEXT_LENGTH, digest="1")
        self.registry.publish_model(chat, template.to_json())
        self.registry.publish_model(ModelCard("matte", "video", VIDEO))

    def ready_worker(self, kind: str, slots: int = 2) -> WorkerCard:
        """Register a ready worker of this kind, and return its card."""
        queue = {"chat": CHAT, "video": VIDEO}[kind]
        card = WorkerCard(f"{kind}1", kind, "host", 1, "cpu", model_of(queue), "fake", queue, slots, 0)
        card = replace(card, state="ready")
        self.registry.renew(card)
        return card


#: A program that sets its soft limits and then becomes the command in its arguments. The limits of the test
#: process stay as they are: it may have more files open than the server may.
LIMITED = """
import json, os, resource, sys
for kind, soft in json.loads(sys.argv[1]):
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def serve(
    redis_url: str, home: Path, soft_limits: Mapping[int, int] | None = None, /, **changes: object
) -> Iterator[Web]:
    """Run the API's own command on a socket of this process, and yield it with a client.

    `soft_limits` (`resource.RLIMIT_…`: value) are the soft limits that the server starts with. The settings
    are the default ones with these changes.
    """
    prefix = f"t{uuid.uuid4().hex[:8]}"
    # `ScriptedWorker` sends no heartbeats, and a test that has no worker submits jobs all the same.
    changes = {"prefix": prefix, "lease_ttl_s": 300, "model_grace_s": 3600} | changes
    settings = Settings.from_env({}).replace(redis_url=redis_url, home=home, **changes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # gunicorn sets this on its own sockets. Without it each response waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        command = [*web_argv(settings, f"fd://{listener.fileno()}"), "--graceful-timeout", "1"]
        if soft_limits:
            command = [sys.executable, "-c", LIMITED, json.dumps([*soft_limits.items()]), *command]
        server = subprocess.Popen(
            command, env=child_env(settings), pass_fds=[listener.fileno()], start_new_session=True
        )
    ledger = Ledger(RedisStore(settings))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as http:
        try:
            web = Web(settings, ledger, http, ScriptedWorker(ledger), server)
            # The request waits in the socket's backlog until gunicorn accepts it.
            assert http.get("/livez", timeout=START_S).json() == {"status": "alive"}
            web.reset()
            yield web
        finally:
            server.terminate()
            server.wait(TIMEOUT_S)
            ledger.store.close()


def assert_refused(web: Web, response: httpx.Response, status: int, field: str | None = None) -> str:
    """Check that the response is a problem document that names the field, and that no job or file exists.

    Returns the problem's detail.
    """
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["status"]) == (status, status), response.text
    assert problem.get("field") == field, response.text
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["code"]
    assert web.is_untouched()
    return str(problem["detail"])


def upload(web: Web, clip: bytes | None, **fields: Any) -> httpx.Response:
    """Submit a video job. Fields of type bytes become files whose names claim to be MP4."""
    files = {name: (f"{name}.mp4", value) for name, value in fields.items() if isinstance(value, bytes)}
    data = {name: value for name, value in fields.items() if not isinstance(value, bytes)}
    if clip is not None:
        files["file"] = ("../clip.mp4", clip)
    return web.http.post("/v1/jobs/video", data=data, files=files or {"pad": (None, "last")})


def token_events(first: int, count: int) -> list[Event]:
    """Return `count` token events from number `first`. Their texts contain line breaks of several kinds."""
    return [Token(f"{i}\u2028\x85é ", i, 1) for i in range(first, first + count)]


def start_job(web: Web) -> str:
    """Submit and claim a job. Its events are 1, queued, and 2, started."""
    job_id = web.submit()
    web.worker.claim(job_id)
    return job_id


def logged_events(ledger: Ledger, job_id: str, after: int = 0) -> list[str]:
    """Return the JSON of the logged events after this number."""
    return [event.text for event in ledger.events(job_id, after)]


def event_data(events: list[ServerSentEvent]) -> list[str]:
    """Check that ids and names of the events agree with their data, and return the data."""
    for event in events:
        fields = json.loads(event.data)
        assert (event.id, event.event) == (str(fields["n"]), fields["type"])
    return [event.data for event in events]
