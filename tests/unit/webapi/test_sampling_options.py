"""The command-line options of the sampling parameters."""

from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from webapi.cli.sampling_options import sampling_options
from worker.jobs.chat.sampling import SamplingParams


def run(*arguments: str) -> tuple[Result, dict[str, Any]]:
    given: dict[str, Any] = {}

    @click.command()
    @sampling_options
    def command(**options: Any) -> None:
        given.update(options)

    return CliRunner().invoke(command, arguments), given


def test_each_sampling_parameter_has_an_option_that_is_not_given() -> None:
    result, given = run()
    assert result.exit_code == 0
    assert given.keys() == SamplingParams.model_fields.keys() - {"n", "return_token_ids"}
    assert [value for value in given.values() if value not in (None, (), {})] == []


def test_sampling_options_have_the_types_of_their_parameters() -> None:
    several = ["--logit-bias=7=-100", "--logit-bias=8=1.5", "--stop-token-ids=2", "--stop-token-ids=3"]
    others = ["--bad-words=a", "--include-stop-str-in-output", "--presence-penalty=-1"]
    _, given = run("--top-k=5", "--min-p=0.1", *several, *others)
    wanted = {
        "top_k": 5, "min_p": 0.1, "logit_bias": {"7": -100.0, "8": 1.5}, "stop_token_ids": (2, 3),
        "bad_words": ("a",), "include_stop_str_in_output": True, "presence_penalty": -1.0,
    }  # fmt: skip
    assert {name: value for name, value in given.items() if value not in (None, (), {})} == wanted


@pytest.mark.parametrize("bias", ["7", "7=", "7=a"])
def test_sampling_options_name_the_form_of_a_bias(bias: str) -> None:
    result, _ = run("--logit-bias", bias)
    assert "must be TOKEN=NUMBER" in result.output


def test_sampling_options_take_structured_outputs_as_json() -> None:
    _, given = run("--structured-outputs", '{"choice": ["yes", "no"]}')
    assert given["structured_outputs"] == {"choice": ["yes", "no"]}
    result, _ = run("--structured-outputs", "{")
    assert "is not valid JSON" in result.output
