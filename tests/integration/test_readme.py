"""What the README shows, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stack import Stack, eventually, free_port
from webapi.cli import main
from webapi.secret import Secret
from webapi.webhooks import post
from worker.jobs.errors import DeliveryFailed
from worker.jobs.ledger import Ledger
from worker.jobs.settings import PREFIX, Settings
from worker.jobs.specs import validate

README = (Path(__file__).parents[2] / "README.md").read_text()


def example(word: str) -> str:
    """The one Python example in which the word stands."""
    sources: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [source] = [source for source in sources if word in source]
    return source


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_pub_sub_client_prints_every_event_while_it_runs_and_afterwards(stack: Stack) -> None:
    source = example("pubsub").replace("stoker:job:", f"{stack.settings.prefix}:job:")
    job = stack.chat("What is the capital of Japan?", temperature=0)
    command = [sys.executable, "-c", source, stack.settings.broker_url, job["id"]]
    live = subprocess.check_output(command, text=True, timeout=60)
    _, events = stack.finished(job)
    expected = "".join(f"{e['n']} {e['type']} {e.get('text', '')}\n" for e in events)
    assert live == expected
    assert subprocess.check_output(command, text=True, timeout=60) == expected


def test_the_webhook_receiver_takes_what_is_signed_with_its_key(ledger: Ledger) -> None:
    ledger.settings = ledger.settings.updated(webhook_private=True)
    port = free_port()
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": f"http://127.0.0.1:{port}/"}
    for job_id, owner in (("good", ""), ("bad", "another")):
        ledger.submit(job_id, "chat.tiny", validate("chat", body), owner)
        ledger.cancel(job_id)
    command = [sys.executable, "-u", "-c", example("Webhook"), Secret(ledger).webhook_key(""), str(port)]
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
