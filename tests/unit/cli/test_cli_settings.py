"""Tests of `stoker settings`."""

import json

import pytest
from click.testing import CliRunner, Result

from webapi.cli.main import main
from worker.jobs.settings import Settings


def run(*arguments: str) -> Result:
    env = {"STOKER_SLOTS": "3", "STOKER_REDIS_PASSWORD": "secret", "STOKER_WEBHOOK_HOSTS": "a.example"}
    return CliRunner().invoke(main, ["settings", *arguments], env=env)


def test_settings_command_prints_every_setting_in_plain_text() -> None:
    output = run().stdout
    for name in Settings.model_fields:
        assert f"\nSTOKER_{name.upper()}: " in output
    assert "STOKER_SLOTS: 3 (environment, default 8)\n    The number of chats that run" in output
    assert "STOKER_WEBHOOK_HOSTS: a.example (environment, default unset)" in output
    assert "STOKER_MEDIA_URL: unset (default)" in output
    assert "](" not in output


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_settings_command_shows_no_secret(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert "secret" not in result.stdout.replace('"secret": ', "")
    assert "***" in result.stdout


def test_settings_command_prints_json() -> None:
    described = {setting["variable"]: setting for setting in json.loads(run("--json").stdout)}
    slots = described["STOKER_SLOTS"]
    assert (slots["value"], slots["default"], slots["source"]) == ("3", "8", "environment")
    assert described["STOKER_REDIS_PASSWORD"]["value"] == "***"


def test_settings_command_names_the_variable_of_an_invalid_value() -> None:
    result = CliRunner().invoke(main, ["settings"], env={"STOKER_SLOTS": "many"})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: STOKER_SLOTS: ")


@pytest.mark.parametrize(("value", "bold"), [("", True), ("1", False), ("yes", False)])
def test_no_color_takes_the_colours_of_a_terminal(value: str, bold: bool) -> None:
    result = CliRunner().invoke(main, ["settings"], env={"NO_COLOR": value}, color=True)
    assert ("\x1b[" in result.stdout) == bold
    assert "\x1b[" not in CliRunner().invoke(main, ["settings"]).stdout  # no terminal
