"""The logs of a real stack: they tell the life of each job, and no secret that was planted in it."""

import json
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import httpx
import pytest
import redis

from tests.support.stack import eventually
from tests.support.workers.planted import ANSWER, PROMPT
from webapi.keys.keys import Keys
from webapi.local.commands import web_argv, webhooks_argv, worker_argv
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env

PASSWORD, FILE_NAME, HOOK, HEADER = "planted-password", "planted-name", "planted-hook", "planted-header"
JSON = {"Content-Type": "application/json"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def planted(settings: Settings, shared_redis: "redis.Redis", log_format: str) -> Iterator[Settings]:
    """Settings whose Redis asks for a password."""
    user = f"u{uuid.uuid4().hex[:8]}"
    shared_redis.acl_setuser(
        user, enabled=True, passwords=[f"+{PASSWORD}"], keys="*", channels="*", categories=["+@all"]
    )
    url = str(settings.redis_url).replace("redis://", f"redis://{user}:{PASSWORD}@")
    chat = {"worker": "chat", "devices": "cpu", "chat_model": "telltale", "lease_ttl_s": 5, "drain_s": 1}
    webhooks = {"webhook_private": True, "webhook_attempts": 1}
    yield settings.replace(
        redis_url=url, log_format=log_format, log_level="DEBUG", model_grace_s=3600, **chat, **webhooks
    )
    shared_redis.acl_deluser(user)


@contextmanager
def running(
    settings: Settings,
    name: str,
    argv: list[str],
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a process whose output goes to a log. At the end it gets SIGTERM."""
    env = child_env(settings) | {"GUNICORN_CMD_ARGS": "--access-logfile -"} | dict(env or {})
    with (settings.home_dir / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, **options)
    try:
        yield process
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()


@contextmanager
def echo() -> Iterator[str]:
    """Run a receiver of webhooks that answers with the request, which is not HTTP. Yield its URL."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(connection.recv(65536).partition(b"\r\n\r\n")[2] + ANSWER.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{HOOK}?token={HOOK}"
        listener.shutdown(socket.SHUT_RDWR)


class Clients:
    """The clients of the stack, who send secrets wherever they can."""

    def __init__(self, http: httpx.Client, ledger: Ledger, hook: str) -> None:
        self._http = http
        self._ledger = ledger
        self._hook = hook

    def chat(self, content: str) -> str:
        """Submit a chat, and return its id when it has ended."""
        messages = [{"role": "user", "content": f"{content} {PROMPT}"}]
        chat = {"messages": messages, "webhook_url": self._hook}
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        response = self._http.post("/v1/jobs/chat", json=chat, headers=headers)
        assert response.status_code == 202, response.text
        job_id = str(response.json()["id"])
        eventually(lambda: self._ledger.get(job_id).terminal, f"the end of {content}")
        return job_id

    def misbehave(self, job_id: str) -> str:
        """Send requests that cannot be answered. Return the stream token that one of them had."""
        post = self._http.post
        statuses = [
            post("/v1/jobs/chat", json={"messages": PROMPT}).status_code,
            post("/v1/jobs/chat", json={"messages": [], "temperature": PROMPT}).status_code,
            post("/v1/jobs/chat", content='{"messages": "' + PROMPT, headers=JSON).status_code,
            post("/v1/chat/completions", json={"messages": [{"role": PROMPT}]}).status_code,
            post("/v1/jobs/video", files={"file": (f"{FILE_NAME}.mp4", PROMPT.encode())}).status_code,
            self._http.get("/v1/jobs", headers={"Authorization": f"Bearer {HEADER}"}).status_code,
            self._http.get("/v1/nowhere", params={"token": HEADER}).status_code,
        ]
        assert statuses == [422, 422, 400, 400, 422, 401, 404]
        token = str(post(f"/v1/jobs/{job_id}/token").json()["token"])
        with httpx.Client(base_url=self._http.base_url) as browser:
            assert browser.get(f"/v1/jobs/{job_id}/events", params={"token": token}).status_code == 200
            assert browser.get(f"/v1/jobs/{job_id}/events", params={"token": f"{token}x"}).status_code == 401
        address = self._http.base_url.host, self._http.base_url.port or 80
        for head in (f"GET /?token={HEADER} x HTTP/1.1", f"GET / HTTP/1.1\r\nAuthorization {HEADER}"):
            with socket.create_connection(address) as raw:
                raw.sendall(f"{head}\r\n\r\n".encode())
                assert raw.recv(12) == b"HTTP/1.1 400"
        return token

    def batch(self) -> None:
        """Run a batch with a line that is no request."""
        endpoint, upload = "/v1/chat/completions", {"purpose": "batch"}
        line = json.dumps({"custom_id": PROMPT, "method": "POST", "url": endpoint, "body": PROMPT})
        file = self._http.post("/v1/files", files={"file": (FILE_NAME, line)}, data=upload).json()
        body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        batch = self._http.post("/v1/batches", json=body).json()
        path = f"/v1/batches/{batch['id']}"
        eventually(lambda: self._http.get(path).json()["status"] == "failed", "the end of the batch")


def refuse_redis(admin: "redis.Redis", url: str, http: httpx.Client) -> None:
    """Let Redis refuse the login of all processes until the API has noticed."""
    user = str(httpx.URL(url).username)
    admin.acl_setuser(user, enabled=False, reset=False)
    admin.client_kill_filter(user=user)
    eventually(lambda: http.get("/v1/queues").status_code == 503, "an API that notices")
    admin.acl_setuser(user, enabled=True, reset=False)
    eventually(lambda: http.get("/v1/queues").status_code == 200, "an API with Redis")


@pytest.mark.parametrize(
    ("log_format", "outage"),
    [
        ("json", False),
        pytest.param("json", True, marks=pytest.mark.long),
        pytest.param("text", True, marks=pytest.mark.long),
    ],
)
def test_logs_tell_the_life_of_jobs_and_no_secret(
    planted: Settings, shared_redis: "redis.Redis", log_format: str, outage: bool
) -> None:
    app = "tests.support.workers.telltale"
    worker = [app if word == "worker.app" else word for word in worker_argv("chat", planted)]
    ledger = Ledger(RedisStore(planted))
    with socket.create_server(("127.0.0.1", 0)) as listener, echo() as hook:
        web = web_argv(planted, f"fd://{listener.fileno()}")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            running(planted, "web", web, pass_fds=[listener.fileno()]),
            running(planted, "webhooks", webhooks_argv(planted)),
            running(planted, "chat", worker) as chat_worker,
            httpx.Client(base_url=url, timeout=90) as http,
        ):
            registry = Registry(ledger.store)
            eventually(lambda: [card.state for card in registry.workers()] == ["ready"], "a ready worker")
            registry.publish_model(ModelCard("matte", "video", "video.matte"))
            key = Keys(ledger.store).create("ci").text
            http.headers["Authorization"] = f"Bearer {key}"
            clients = Clients(http, ledger, hook)
            jobs = {"succeeded": clients.chat("say"), "failed": clients.chat("fail")}
            assert [ledger.get(job).state for job in jobs.values()] == list(jobs)
            token = clients.misbehave(jobs["succeeded"])
            clients.batch()
            hooks = planted.home_dir / "webhooks.log"
            eventually(lambda: hooks.read_text("utf-8").count("given up") == len(jobs), "the webhooks' end")
            if outage:
                refuse_redis(shared_redis, str(planted.redis_url), http)
            http.post("/v1/jobs/chat", json={"messages": [{"role": "user", "content": f"break {PROMPT}"}]})
            chat_worker.wait(90)
    ledger.store.close()
    logs = {name: (planted.home_dir / f"{name}.log").read_text() for name in ("web", "webhooks", "chat")}
    lines = {name: text.splitlines() for name, text in logs.items()}
    for secret in (PROMPT, ANSWER, PASSWORD, FILE_NAME, HOOK, HEADER, token, key[23:66]):
        assert [line for line in chain.from_iterable(lines.values()) if secret in line] == [], secret
    if log_format == "json":
        check_lives({name: list(map(json.loads, found)) for name, found in lines.items()}, jobs)
    else:
        head = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [\w.]+: .")
        assert [line for line in chain.from_iterable(lines.values()) if not head.match(line)] == []


def check_lives(logs: dict[str, list[dict[str, Any]]], jobs: dict[str, str]) -> None:
    """Check that each job was submitted, started, ended, and that its webhook was given up."""
    for lines in logs.values():
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
        assert not [line for line in lines if "its arguments do not fit" in line["message"]]
    for state, job in jobs.items():
        about = {name: [line for line in lines if line.get("job") == job] for name, lines in logs.items()}
        assert [line["message"] for line in about["web"] if line["logger"] != "stoker.audit"] == ["submitted"]
        [*_, started] = [line for line in about["chat"] if line["message"] == "started"]
        [ended] = [line for line in about["chat"] if line["message"] == "ended"]
        assert (ended["state"], ended["seconds"] >= 0) == (state, True)
        [given_up] = about["webhooks"]
        assert given_up["message"].startswith("webhook given up after 1 attempts: 127.0.0.1: ")
        known = {"job": job, "attempt": 1, "worker": started["worker"], "trace": TRACE}
        assert all(line.items() >= known.items() for line in (started, ended, given_up))
    messages = {line["message"] for line in logs["chat"]}
    assert {"the job has met an error", "the engine is broken, the worker ends"} <= messages
    assert "ValueError (its text is left out)" in str([line.get("exception") for line in logs["chat"]])


@pytest.mark.long
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_logs_have_no_keys_of_a_media_store_that_is_away(planted: Settings) -> None:
    keys = {"AWS_ACCESS_KEY_ID": f"{HEADER}-id", "AWS_SECRET_ACCESS_KEY": HEADER, "AWS_MAX_ATTEMPTS": "1"}
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_DEFAULT_REGION": "us-east-1"}
    settings = planted.replace(media_url="s3://media/p")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web, fd = web_argv(settings, f"fd://{listener.fileno()}"), listener.fileno()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with running(settings, "web", web, keys | away, pass_fds=[fd]), httpx.Client(timeout=90) as http:
            file = {"file": (FILE_NAME, json.dumps({"custom_id": PROMPT}))}
            answer = http.post(f"{url}/v1/files", files=file, data={"purpose": "batch"})
    log = (planted.home_dir / "web.log").read_text()
    assert answer.status_code == 503, answer.text
    assert "s3" in log
    assert [
        line
        for line in log.splitlines()
        for secret in (HEADER, FILE_NAME, PROMPT, PASSWORD)
        if secret in line
    ] == []
