"""The documented proxies in front of the API: TLS, streams, uploads and refusals."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

from tests.support.docs import BLOCKS
from tests.support.stack import eventually, free_port
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web
from webapi.keys.keys import Keys
from worker.jobs.events import Succeeded, Token

#: What the configurations get so that the API also has a path prefix.
CADDY_PREFIX = """handle_path /stoker/* {
\t\treverse_proxy 127.0.0.1:8000 {
\t\t\theader_up X-Forwarded-Prefix /stoker
\t\t}
\t}"""
NGINX_PREFIX = "location /stoker/ { proxy_pass http://stoker/; proxy_set_header X-Forwarded-Prefix /stoker; }"
DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs in front of the API. Its files are in `folder`."""

    folder: Path
    port: int
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, timeout=TIMEOUT_S, verify=self.tls, headers=headers)


def documented(language: str) -> str:
    """Return the proxy's configuration in the documentation."""
    (block,) = (block for block in BLOCKS if block.language == language)
    return block.text


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, api: str) -> list[str]:
    """Write nginx's configuration. Return the command that runs it in the foreground."""
    text = replaced(
        documented("nginx"),
        {
            "    location / {": f"    {NGINX_PREFIX}\n    location / {{",
            "443": str(port),
            "127.0.0.1:8000": api,
            "/etc/ssl": str(folder),
            "/var/log/nginx": str(folder),
        },
    )
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    main = f"daemon off;\npid {folder}/pid;\nevents {{}}\nhttp {{\n{temporary}{text}}}\n"
    (folder / "nginx.conf").write_text(main)
    return ["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, api: str) -> list[str]:
    """Write Caddy's configuration. Return the command that runs it."""
    text = replaced(
        documented("caddy"),
        {
            "{\n\tservers": "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers",
            "stoker.example {": f"https://localhost:{port} {{\n\ttls {folder}/stoker.pem {folder}/stoker.key",
            "\treverse_proxy": f"\t{CADDY_PREFIX}\n\treverse_proxy",
            "127.0.0.1:8000": api,
        },
    )
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def run(command: Callable[[Path, int, str], list[str]], folder: Path, web: Web) -> Iterator[Proxy]:
    """Run a proxy in front of the API until the end of the block."""
    certificate, key = folder / "stoker.pem", folder / "stoker.key"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*new, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    port, api = free_port(), f"127.0.0.1:{web.http.base_url.port}"
    environment = {"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command(folder, port, api), stdout=output, stderr=output, env=environment)
        try:
            eventually(lambda: listens(process, port), "the proxy to listen")
            yield Proxy(folder, port, ssl.create_default_context(cafile=str(certificate)))
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


def listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    assert process.poll() is None
    try:
        socket.create_connection(("localhost", port), TIMEOUT_S).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module", params=[nginx, caddy])
def proxy(
    request: pytest.FixtureRequest, server: Web, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    name = request.param.__name__
    for program in (name, "openssl"):
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
            pytest.skip(f"{program} is not installed")
    with run(request.param, tmp_path_factory.mktemp(name), server) as proxy:
        yield proxy


def test_proxy_delivers_events_one_by_one(web: Web, proxy: Proxy) -> None:
    with proxy.client(Keys(web.ledger.store).create("ci").text) as client:
        job_id = client.post("/v1/jobs/chat", json=HELLO).json()["id"]
        web.worker.claim(job_id)
        with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events") as source:
            events = source.iter_sse()
            assert [next(events).event for _ in range(2)] == ["queued", "started"]
            for number in range(5):
                web.worker.append(job_id, Token("a", number, 1))
                assert next(events).json()["index"] == number
            web.worker.append(job_id, DONE)
            assert [event.event for event in events] == ["succeeded"]


def test_proxy_passes_uploads_and_results(web: Web, proxy: Proxy, clip: bytes) -> None:
    with proxy.client(Keys(web.ledger.store).create("ci").text) as client:
        accepted = client.post("/v1/jobs/video", files={"file": clip})
        assert accepted.status_code == 202
        cookie = client.post(f"/v1/jobs/{accepted.json()['id']}/token").headers["Set-Cookie"]
        assert "Secure" in cookie.split("; ")


def test_proxy_with_a_prefix_gets_links_that_work(web: Web, proxy: Proxy) -> None:
    with proxy.client(Keys(web.ledger.store).create("ci").text) as client:
        accepted = client.post("/stoker/v1/jobs/chat", json=HELLO)
        job_id = accepted.json()["id"]
        assert accepted.headers["Location"] == f"/stoker/v1/jobs/{job_id}"
        assert client.get(accepted.headers["Location"]).json()["links"] == accepted.json()["links"]
        token = client.post(f"{accepted.headers['Location']}/token").json()
        del client.headers["Authorization"]
        client.cookies.clear()
        web.ledger.cancel(job_id)
        assert "event: canceled" in client.get(token["events"]).text
        document = client.get("/stoker/openapi.json").json()
        assert document["servers"] == [{"url": "/stoker"}]
        forged = client.get("/openapi.json", headers={"X-Forwarded-Prefix": "/forged"}).json()
        assert forged["servers"] == [{"url": "/"}]


def test_proxy_refuses_body_over_the_limit(web: Web, proxy: Proxy) -> None:
    key = Keys(web.ledger.store).create("ci").text
    head = (
        f"POST /v1/jobs/video HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {600 * 2**20}\r\n\r\n"
    )
    with (
        socket.create_connection(("localhost", proxy.port), TIMEOUT_S) as connection,
        proxy.tls.wrap_socket(connection, server_hostname="localhost") as encrypted,
    ):
        encrypted.sendall(head.encode())
        encrypted.settimeout(0.1)

        def answer() -> bytes | None:
            encrypted.sendall(bytes(1024))  # Caddy passes on the answer while it reads
            try:
                return encrypted.recv(2**16)
            except TimeoutError:
                return None

        assert eventually(answer, "an answer").startswith(b"HTTP/1.1 413 ")


def test_proxy_before_the_first_key_is_refused(web: Web, proxy: Proxy) -> None:
    with proxy.client() as client:
        refused = client.get("/v1/jobs")
    assert (refused.status_code, "through a proxy" in refused.text) == (401, True)
    assert web.http.get("/v1/jobs").status_code == 200


def test_proxy_logs_no_tokens(web: Web, proxy: Proxy) -> None:
    Keys(web.ledger.store).create("ci")
    with proxy.client() as client:
        assert client.get(f"/v1/jobs/{'0' * 32}/events?token=secret").status_code == 401
    assert all(b"secret" not in file.read_bytes() for file in proxy.folder.rglob("*") if file.is_file())
