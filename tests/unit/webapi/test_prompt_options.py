"""The command-line options of a chat's prompt."""

from typing import Any

import click
from click.testing import CliRunner, Result

from webapi.cli.prompt_options import prompt_options


def run(*arguments: str) -> tuple[Result, dict[str, Any]]:
    given: dict[str, Any] = {}

    @click.command()
    @prompt_options
    def command(**options: Any) -> None:
        given.update(options)

    return CliRunner().invoke(command, arguments), given


def test_prompt_options_are_fields_of_the_request() -> None:
    arguments = ["--chat-template-kwargs", '{"enable_thinking": false}', "--reasoning-effort=low"]
    wanted = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}
    assert run(*arguments)[1] == wanted | {"truncate_prompt_tokens": None}
    assert run("--truncate-prompt-tokens=-1")[1]["truncate_prompt_tokens"] == -1
    assert set(run()[1].values()) == {None}


def test_prompt_options_name_the_form_of_variables() -> None:
    result, _ = run("--chat-template-kwargs", "enable_thinking=false")
    assert "must be a JSON object" in result.output
