"""The command `llm`."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.programs.checks import CITY, JAPAN, LONG, Checks, Target, check_weather, error_of

checks = Checks("llm")

#: llm reads its models from a file in this folder, and asks OpenAI for nothing.
HOME = tempfile.TemporaryDirectory()
LLM = str(Path(sys.executable).with_name("llm"))
#: A tool, as llm takes it.
FUNCTION = "def get_weather(city: str) -> str:\n    'Tell the weather of a city.'\n    return 'sunny'"


def start(
    target: Target, *options: str, model: str | None = None, question: str = JAPAN
) -> "subprocess.Popen[str]":
    """Start `llm prompt`."""
    entry: dict[str, Any] = {"model_id": "stoker", "model_name": model or target.model}
    entry |= {"api_base": target.base_url, "supports_tools": True, "supports_schema": True}
    Path(HOME.name, "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML
    env = os.environ | {"LLM_USER_PATH": HOME.name}
    command = [LLM, "-m", "stoker", "--key", "none", "--no-log", *options, question]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(target: Target, *options: str, **given: str) -> tuple[str, str]:
    """Run `llm prompt` and return what it writes to its output and to its error output.

    Raises `AssertionError` with the latter if the command fails.
    """
    process = start(target, "-o", "max_tokens", "96", *options, **given)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output, errors


@checks.feature("chat")
def check_chat(target: Target) -> None:
    output, _ = ask(target, "--no-stream", "-o", "temperature", "0")
    assert "Tokyo" in output


@checks.feature("stream")
def check_stream(target: Target) -> None:
    whole, _ = ask(target, "--no-stream", "-o", "temperature", "0")
    assert ask(target, "-o", "temperature", "0")[0] == whole


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    _, errors = ask(target, "--usage")
    assert re.search(r"[1-9]\d* input, [1-9]\d* output", errors), errors


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    options = {"temperature": "1.5", "seed": "7", "presence_penalty": "0.5", "logit_bias": '{"5": -100}'}
    words = [word for name, value in options.items() for word in ("-o", name, value)]
    first, second = (ask(target, *words)[0] for _ in range(2))
    assert first == second != ask(target, "-o", "temperature", "0")[0]


@checks.feature("JSON schema")
def check_schema(target: Target) -> None:
    check_weather(json.loads(ask(target, "--schema", json.dumps(CITY))[0]))


@checks.feature("optional tool")
def check_auto(target: Target) -> None:
    ask(target, "--functions", FUNCTION)


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(AssertionError, lambda: ask(target, model="no-such-model"))
    assert "no-such-model" in str(error), error


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> None:
    error = error_of(AssertionError, lambda: ask(target, question=LONG))
    assert "prompt is too long" in str(error), error


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    options = {"logit_bias": '{"2": -100}', "max_tokens": "2000"}  # the answer does not end by itself
    process = start(target, *(word for name, value in options.items() for word in ("-o", name, value)))
    assert process.stdout
    assert process.stdout.read(1)
    process.terminate()
    process.communicate(timeout=60)
    target.wait_until_canceled()


for name in ("log-probabilities", "several choices", "required tool", "named tool"):
    checks.lacks(name, "no option")
for name in ("tool call in a stream", "result of a tool"):
    checks.lacks(name, "nothing makes the model call a tool")

if __name__ == "__main__":
    checks.main()
