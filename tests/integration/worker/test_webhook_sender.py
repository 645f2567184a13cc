"""Tests of webhooks with a real gunicorn, a real Celery worker for webhooks and a scripted receiver."""

import queue
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.stack import eventually, free_port
from tests.support.web.webstack import TIMEOUT_S, Web, serve
from webapi.keys.signing_keys import SigningKeys
from webapi.local.commands import webhooks_argv
from webapi.local.valkey import valkey_argv, valkey_url
from webapi.webhooks.sender import JITTER, WAIT_MAX_S, post, wait_s
from worker.jobs.dispatch.webhook_limits import HOST_AT_ONCE, OWNER_AT_ONCE
from worker.jobs.errors import DeliveryFailed
from worker.jobs.events import Failed, Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import Record
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, validate

ATTEMPTS = 3
SETTINGS = {"webhook_private": True, "webhook_backoff_s": 0.02, "webhook_attempts": ATTEMPTS}


@dataclass
class Delivery:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A receiver that responds with the given statuses, then with 204. It responds only while `go` is set.

    A request takes its status when it arrives, so a killed client takes none of a later one.
    """

    port: int
    statuses: "queue.SimpleQueue[int]" = field(default_factory=queue.SimpleQueue)
    received: "queue.SimpleQueue[Delivery]" = field(default_factory=queue.SimpleQueue)
    go: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=b"

    def next(self) -> Delivery:
        return self.received.get(timeout=TIMEOUT_S)

    def answers(self, *statuses: int) -> None:
        for status in statuses:
            self.statuses.put(status)

    def next_status(self) -> int:
        try:
            return self.statuses.get_nowait()
        except queue.Empty:
            return 204


@contextmanager
def running_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = target.next_status()
            target.received.put(Delivery(self.path, headers, body))
            assert target.go.wait(TIMEOUT_S)
            self.send_response(status)
            self.send_header("Location", f"http://127.0.0.1:{target.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # the client of this request was killed

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    target = Receiver(server.server_port)
    target.go.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield target
    finally:
        target.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as found:
        yield found


def spawn(settings: Settings, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            webhooks_argv(settings), env=child_env(settings), stdout=output, stderr=output
        )


@pytest.fixture(scope="module")
def sender(server: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the webhook worker. At the end it gets SIGTERM, and must exit with 0."""
    log = tmp_path_factory.mktemp("sender") / "log"
    process = spawn(server.settings, log)
    try:
        yield
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def webhook_sets(ledger: Ledger) -> list[str]:
    """Return the keys of the new webhooks and of the undelivered webhooks of each owner."""
    return [
        ledger.store.key("webhooks"),
        *ledger.store.client.scan_iter(ledger.store.key("owner", "*", "webhooks"), count=1000),
    ]


def due(ledger: Ledger) -> list[str]:
    members: list[Any] = [ledger.store.client.zrange(key, 0, -1) for key in webhook_sets(ledger)]
    return [job_id for found in members for job_id in found]


def tries_in_flight(ledger: Ledger) -> dict[str, str]:
    tries: Any = ledger.store.client.hgetall(ledger.store.key("webhooks", "active"))
    return dict(tries)


def wait_until_settled(ledger: Ledger) -> None:
    eventually(lambda: not due(ledger), "the end of all deliveries")
    assert tries_in_flight(ledger) == {}


def wait_until_postponed(ledger: Ledger) -> None:
    eventually(lambda: due(ledger) and not tries_in_flight(ledger), "the end of the first try")


def make_due(ledger: Ledger) -> None:
    """Let time pass until all deliveries are due, and all tries in flight count as lost."""
    for job_id, value in tries_in_flight(ledger).items():
        ledger.store.client.hset(
            ledger.store.key("webhooks", "active"), job_id, "0 " + value.split(" ", 1)[1]
        )
    for key in webhook_sets(ledger):
        ledger.store.client.zadd(key, dict.fromkeys(due(ledger), 0), xx=True)


def verified(web: Web, delivery: Delivery, owner: str = "") -> dict[str, Any]:
    """Check that this owner's key, and no other key, verifies the signature. Return the payload."""
    with pytest.raises(WebhookVerificationError):
        Webhook(SigningKeys(web.ledger.store).webhook_key(owner + "x")).verify(
            delivery.body, delivery.headers
        )
    return dict(
        Webhook(SigningKeys(web.ledger.store).webhook_key(owner)).verify(delivery.body, delivery.headers)
    )


@pytest.mark.usefixtures("sender")
def test_sender_retries_until_accepted(web: Web, receiver: Receiver) -> None:
    receiver.answers(500, 302)
    job_id = web.submit(webhook_url=receiver.url)
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    tries = [receiver.next() for _ in range(3)]
    wait_until_settled(web.ledger)
    assert receiver.received.empty()
    assert {delivery.path for delivery in tries} == {"/hook?a=b"}  # no redirect was followed
    assert {delivery.headers["webhook-id"] for delivery in tries} == {f"msg_{job_id}"}
    payloads = [verified(web, delivery) for delivery in tries]
    job = web.job(job_id)
    sent = {"type": "job.canceled", "timestamp": job["finished_at"], "data": job}
    assert payloads == [sent] * 3
    assert tries[0].headers["content-type"] == "application/json"
    assert tries[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    assert tries[0].headers["user-agent"].startswith("stoker/")


@pytest.mark.usefixtures("sender")
@pytest.mark.parametrize(
    ("event", "kind"),
    [(Succeeded({"text": "Hi \u2028"}, {}), "job.succeeded"), (Failed("engine_failed", "no"), "job.failed")],
)
def test_sender_delivers_success_and_failure(web: Web, receiver: Receiver, event: Any, kind: str) -> None:
    job_id = web.submit(webhook_url=receiver.url)
    web.worker.claim(job_id)
    web.worker.append(job_id, event, result={"text": "Hi \u2028"})
    payload = verified(web, receiver.next())
    assert (payload["type"], payload["data"]) == (kind, web.job(job_id))
    wait_until_settled(web.ledger)


@pytest.mark.usefixtures("sender")
def test_sender_skips_job_that_it_cannot_read(web: Web, receiver: Receiver) -> None:
    job_id = web.submit(webhook_url=receiver.url)
    web.ledger.store.client.hset(web.ledger.store.channel(job_id) + ":record", "schema", "3")
    web.ledger.cancel(job_id)
    end_job(web, "readable", receiver.url, "key1")
    assert verified(web, receiver.next(), "key1")["data"]["id"] == "readable"
    wait_until_settled(web.ledger)  # its tries are used up
    assert receiver.received.empty()


@pytest.mark.usefixtures("sender")
def test_sender_signs_with_key_of_owner(web: Web, receiver: Receiver) -> None:
    end_job(web, "owned", receiver.url, "key1")
    assert verified(web, receiver.next(), "key1")["data"]["id"] == "owned"
    wait_until_settled(web.ledger)


def end_job(web: Web, job_id: str, url: str, owner: str) -> None:
    spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": url})
    web.ledger.submit(job_id, "chat.tiny", spec, owner)
    web.ledger.cancel(job_id)


@pytest.mark.usefixtures("sender")
def test_sender_delivers_beside_receivers_that_hang(web: Web, receiver: Receiver) -> None:
    with running_receiver() as hanging, running_receiver() as other:
        for target in (hanging, other):
            target.go.clear()
            for number in range(OWNER_AT_ONCE):
                end_job(web, f"hangs-{target.port}-{number}", target.url, "key1")
        for _ in range(HOST_AT_ONCE):
            hanging.next()
            other.next()
        end_job(web, "other", receiver.url, "key2")
        assert receiver.next().headers["webhook-id"] == "msg_other"
        assert len(tries_in_flight(web.ledger).keys() - {"other"}) <= OWNER_AT_ONCE
        assert hanging.received.empty()  # a host and a key have no more tries at once
        assert other.received.empty()
        for target in (hanging, other):
            target.go.set()
        wait_until_settled(web.ledger)


@pytest.mark.usefixtures("sender")
@pytest.mark.parametrize(("statuses", "tries"), [([410], 1), ([500] * ATTEMPTS, ATTEMPTS)])
def test_sender_gives_up_after_gone_or_all_attempts(
    web: Web, receiver: Receiver, statuses: list[int], tries: int
) -> None:
    receiver.answers(*statuses)
    web.http.post(f"/v1/jobs/{web.submit(webhook_url=receiver.url)}/cancel")
    for _ in range(tries):
        receiver.next()
    wait_until_settled(web.ledger)
    assert receiver.received.empty()


@pytest.mark.usefixtures("sender")
def test_sender_drops_job_deleted_between_attempts(web: Web, receiver: Receiver) -> None:
    receiver.answers(500)
    receiver.go.clear()
    job_id = web.submit(webhook_url=receiver.url)
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    receiver.next()
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    receiver.go.set()
    other = web.submit(webhook_url=receiver.url)
    web.http.post(f"/v1/jobs/{other}/cancel")
    # The other job's webhook arrives later than a retry of the first one would.
    assert receiver.next().headers["webhook-id"] == f"msg_{other}"
    wait_until_settled(web.ledger)
    assert receiver.received.empty()


def canceled_job(ledger: Ledger, url: str) -> Record:
    spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": url})
    ledger.submit("a", "chat.tiny", spec)
    ledger.cancel("a")
    return ledger.get("a")


@pytest.fixture
def open_ledger(ledger: Ledger) -> Ledger:
    """A ledger whose settings allow webhooks to private addresses."""
    ledger.store.settings = ledger.store.settings.replace(webhook_private=True)
    return ledger


def test_post_uses_no_proxy(open_ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert post(open_ledger.store, canceled_job(open_ledger, receiver.url)) == 204


def test_post_host_header_has_brackets_for_ipv6(open_ledger: Ledger, receiver: Receiver) -> None:
    mapped = "[::ffff:127.0.0.1]"
    post(open_ledger.store, canceled_job(open_ledger, receiver.url.replace("127.0.0.1", mapped)))
    assert receiver.next().headers["host"] == f"{mapped}:{receiver.port}"


def test_post_checks_address_with_current_settings(ledger: Ledger, receiver: Receiver) -> None:
    ledger.store.settings = ledger.store.settings.replace(webhook_ports=[receiver.port])
    record = canceled_job(ledger, receiver.url.replace("127.0.0.1", "name.example"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.1"))
        with pytest.raises(DeliveryFailed, match="private"):
            post(ledger.store, record)
    assert receiver.received.empty()


def resolving_to(address: str) -> Any:
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
        # Other lookups are those of Redis, and those with flags, which only parse numeric addresses.
        if host != "name.example" or options.get("flags"):
            return real(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))]

    return look_up


def test_post_times_out_without_response(open_ledger: Ledger, receiver: Receiver) -> None:
    receiver.go.clear()
    with pytest.raises(DeliveryFailed):
        post(open_ledger.store, canceled_job(open_ledger, receiver.url), timeout_s=0.2)


def test_post_reports_refused_connection(open_ledger: Ledger) -> None:
    with pytest.raises(DeliveryFailed, match="refused"):
        post(open_ledger.store, canceled_job(open_ledger, f"http://127.0.0.1:{free_port()}/"))


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


@pytest.mark.parametrize("certified", ["name.example", "other.example"])
def test_post_verifies_tls_certificate_for_name(
    open_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certified: str
) -> None:
    key, cert = certificate(tmp_path, certified)
    context, seen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(cert, key)
    context.sni_callback = lambda _, name, __: seen.append(name)
    tls = ssl.create_default_context(cafile=str(cert))
    with running_receiver(context) as receiver:
        record = canceled_job(open_ledger, f"https://name.example:{receiver.port}/")
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.1"))
        if certified == "name.example":
            assert post(open_ledger.store, record, tls=tls) == 204
            assert receiver.next().headers["host"] == f"name.example:{receiver.port}"
        else:
            with pytest.raises(DeliveryFailed, match=r"certificate|mismatch"):
                post(open_ledger.store, record, tls=tls)
        assert seen == ["name.example"]
        monkeypatch.undo()


def test_wait_s_grows_fivefold_up_to_limit() -> None:
    expected = [5, 25, 125, 625, 3125, 15625, WAIT_MAX_S, WAIT_MAX_S]
    for tried, seconds in enumerate(expected):
        waits = {wait_s(tried, 5.0) for _ in range(50)}
        assert len(waits) > 1
        assert all((1 - JITTER) * seconds <= wait <= (1 + JITTER) * seconds for wait in waits)
    assert wait_s(99, 5.0) < 2 * WAIT_MAX_S


def test_sender_delivers_webhooks_of_dead_worker(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """One sender gets SIGKILL during the tries of two keys, the next one SIGTERM before a retry is due."""
    with serve(redis_url, tmp_path, **SETTINGS | {"webhook_backoff_s": 100}) as web:
        receiver.go.clear()
        jobs = [f"{owner}-{number}" for owner in ("key1", "key2") for number in range(HOST_AT_ONCE)]
        processes = [spawn(web.settings, tmp_path / "log")]
        try:
            for job_id in jobs:
                end_job(web, job_id, receiver.url, job_id.split("-")[0])
            for _ in range(HOST_AT_ONCE):
                receiver.next()
            processes[0].send_signal(signal.SIGKILL)
            processes[0].wait()
            assert len(tries_in_flight(web.ledger)) == HOST_AT_ONCE
            receiver.go.set()
            make_due(web.ledger)
            receiver.answers(500)
            processes.append(second := spawn(web.settings, tmp_path / "second"))
            delivered = {receiver.next().headers["webhook-id"] for _ in jobs}
            assert delivered == {f"msg_{job_id}" for job_id in jobs}
            wait_until_postponed(web.ledger)
            second.terminate()
            assert second.wait(TIMEOUT_S) == 0, (tmp_path / "second").read_text()
            assert len(due(web.ledger)) == 1
            make_due(web.ledger)
            processes.append(spawn(web.settings, tmp_path / "log"))
            assert receiver.next().headers["webhook-id"] in delivered
            wait_until_settled(web.ledger)
        finally:
            for process in processes:
                process.kill()
                process.wait()


@pytest.mark.long
def test_sender_survives_redis_restart(tmp_path: Path, receiver: Receiver) -> None:
    """Redis restarts while a retry is not due yet."""
    socket = tmp_path / "valkey.sock"
    valkey = subprocess.Popen(valkey_argv(socket, tmp_path), stdout=subprocess.DEVNULL)
    changes = SETTINGS | {"webhook_backoff_s": 100}
    with serve(valkey_url(socket), tmp_path, **changes) as web:
        sender = spawn(web.settings, tmp_path / "log")
        try:
            receiver.answers(500)
            held = web.submit(webhook_url=receiver.url)
            web.http.post(f"/v1/jobs/{held}/cancel")
            receiver.next()
            wait_until_postponed(web.ledger)
            valkey.terminate()
            valkey.wait(TIMEOUT_S)
            valkey = subprocess.Popen(valkey_argv(socket, tmp_path), stdout=subprocess.DEVNULL)
            eventually(lambda: is_answering(web), "Redis")
            job_id = web.submit(webhook_url=receiver.url)
            web.http.post(f"/v1/jobs/{job_id}/cancel")
            assert verified(web, receiver.next())["data"]["id"] == job_id
            make_due(web.ledger)
            assert verified(web, receiver.next())["data"]["id"] == held
            wait_until_settled(web.ledger)
            sender.terminate()
            assert sender.wait(TIMEOUT_S) == 0, (tmp_path / "log").read_text()
        finally:
            sender.kill()
            sender.wait()
            valkey.kill()
            valkey.wait()


def is_answering(web: Web) -> bool:
    return web.http.get("/v1/queues").status_code == 200
