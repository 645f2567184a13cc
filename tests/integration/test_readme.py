"""What the README shows, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stack import Stack
from webapi.cli import main
from worker.jobs.settings import PREFIX, Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def example(word: str) -> str:
    """The Python example with this word."""
    examples: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [found] = [text for text in examples if word in text]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_openais_client_streams_the_answer(stack: Stack) -> None:
    source = example("openai").replace("http://127.0.0.1:8000", stack.settings.url)
    assert "Tokyo" in subprocess.check_output([sys.executable, "-c", source], text=True, timeout=60)


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
