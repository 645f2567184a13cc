"""What the README shows, as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack, eventually, free_port
from tests.support.uploads import write_clip
from tests.support.webstack import HELLO, TIMEOUT_S, Web
from webapi.cli.main import main
from webapi.services.keys import Keys
from webapi.services.signing_keys import SigningKeys
from webapi.webhooks.sender import post
from worker.jobs.errors import DeliveryFailed
from worker.jobs.events import Progress, Succeeded, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import PREFIX, Settings, child_env
from worker.jobs.specs import validate

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "tests" / "browser"
README = (ROOT / "README.md").read_text()
DONE = Succeeded({}, {})


def block(language: str, about: str) -> str:
    """The one example in this language that has this in it."""
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if about in text]
    return str(found)


def answer(web: Web, job_id: str) -> None:
    web.worker.claim(job_id)
    web.worker.append(job_id, Token("Rayleigh", 0, (0,)), Token(" scatters.", 1, (1,)), DONE)


def test_the_python_client(web: Web, tmp_path: Path) -> None:
    source = block("python", "webapi.client").replace("http://127.0.0.1:8000", str(web.http.base_url))
    key = Keys(web.ledger).create("readme")
    source = source.replace("sk-stoker-…", key.text)
    write_clip(tmp_path / "clip.mp4")
    command, env = [sys.executable, "-c", source], child_env(web.settings) | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as program:
        [chat] = eventually(lambda: web.ledger.page(owner=key.key.id), "the chat")
        answer(web, chat.id)
        video = eventually(lambda: web.ledger.page("video", owner=key.key.id), "the video")[0]
        web.worker.claim(video.id)
        (web.settings.media_dir / video.id / "result.mp4").write_bytes(b"the result")
        web.worker.append(video.id, Progress(3, 3, "frames"), DONE)
        assert program.communicate(timeout=TIMEOUT_S)[0] == "Rayleigh scatters.\n3 of 3"
    assert (tmp_path / "out.mp4").read_bytes() == b"the result"


@pytest.mark.skipif(not (BROWSER / "node_modules").is_dir(), reason="npm has installed no `eventsource`")
def test_the_page(web: Web) -> None:
    key = Keys(web.ledger).create("readme").text
    headers = {"Authorization": f"Bearer {key}"}
    job_id = str(web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).json()["id"])
    answer(web, job_id)
    names = {"api": str(web.http.base_url).rstrip("/"), "id": job_id, "key": key}
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in names.items())
    script = (
        f'import {{ EventSource }} from "eventsource";\n{given}const show = (text) => console.log(text);\n'
    )
    node = ["node", "--input-type=module", "-e", script + block("js", "EventSource")]
    shown = subprocess.check_output(node, cwd=BROWSER, text=True, timeout=TIMEOUT_S)
    assert shown == "Rayleigh\n scatters.\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_openais_client_streams_the_answer(stack: Stack) -> None:
    source = block("python", "openai").replace("http://127.0.0.1:8000", stack.settings.url)
    assert "Tokyo" in subprocess.check_output([sys.executable, "-c", source], text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_pub_sub_client_prints_every_event_while_it_runs_and_afterwards(stack: Stack) -> None:
    source = block("python", "pubsub").replace("stoker:job:", f"{stack.settings.prefix}:job:")
    job = stack.chat("What is the capital of Japan?", temperature=0)
    command = [sys.executable, "-c", source, stack.settings.broker_url, job["id"]]
    live = subprocess.check_output(command, text=True, timeout=60)
    _, events = stack.finished(job)
    expected = "".join(f"{e['n']} {e['type']} {e.get('text', '')}\n" for e in events)
    assert live == expected
    assert subprocess.check_output(command, text=True, timeout=60) == expected


def test_the_webhook_receiver_takes_what_is_signed_with_its_key(ledger: Ledger) -> None:
    ledger.settings = ledger.settings.replace(webhook_private=True)
    port = free_port()
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": f"http://127.0.0.1:{port}/"}
    for job_id, owner in (("good", ""), ("bad", "another")):
        ledger.submit(job_id, "chat.tiny", validate("chat", body), owner)
        ledger.cancel(job_id)
    command = [
        sys.executable,
        "-u",
        "-c",
        block("python", "Webhook"),
        SigningKeys(ledger).webhook_key(""),
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as receiver:
        try:
            assert eventually(lambda: _status(ledger, "good"), "the receiver") == 204
            assert _status(ledger, "bad") == 400
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "msg_good job.canceled good\n"
        finally:
            receiver.kill()


def _status(ledger: Ledger, job_id: str) -> int | None:
    try:
        return post(ledger, ledger.get(job_id))
    except DeliveryFailed:  # it does not listen yet
        return None


def test_the_settings_table_is_complete_and_right() -> None:
    section = README[README.index("## Settings") :]
    rows = re.findall(r"^\| (`STOKER_.*?) \| (.*?) \|", section, re.MULTILINE)
    documented: dict[str, str] = {}
    for names, defaults in rows:
        values = re.findall(r"`([^`]*)`", defaults)
        documented |= dict(zip(re.findall(r"`(\w+)`", names), values or [""], strict=False))
    defaults = Settings().to_env()
    assert documented.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name in defaults:
        assert (
            float(documented[name]) == float(defaults[name])
            if _number(defaults[name])
            else (documented[name] == defaults[name])
        ), name


def _number(text: str) -> bool:
    return re.fullmatch(r"[0-9.]+", text) is not None and text.count(".") < 2


def test_the_commands_that_the_readme_shows_exist() -> None:
    shown = set(re.findall(r"^\$ stoker (\w+)", README, re.MULTILINE))
    assert shown <= set(main.commands)
