"""Runs the checks of one client, and prints a line of JSON for each feature.

It imports the standard library only, because each client has an environment of its own.
"""

import importlib.metadata
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = [
    "CITY",
    "JAPAN",
    "LONG",
    "PROMPT",
    "WEATHER",
    "Checks",
    "Target",
    "check_weather",
    "error_of",
    "weather_of",
]

Error = TypeVar("Error", bound=BaseException)

JAPAN = "What is the capital of Japan?"
PROMPT: list[Any] = [{"role": "user", "content": JAPAN}]
#: A text that is too long for the model's context.
LONG = "word " * 9000
LONG_PROMPT: list[Any] = [{"role": "user", "content": LONG}]
#: A tool, and the JSON schema of its arguments.
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Tokyo", "Oslo"]},
        "days": {"type": "integer", "enum": [1, 2, 3]},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Tells the weather of a city.", "parameters": CITY},
}
#: The request must be answered by one call of WEATHER. If it may make several, a small model does not stop.
MUST_CALL: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
WAIT_S = 30.0
#: The features, in the order of the table.
FEATURES = (
    "chat",
    "stream",
    "usage in a stream",
    "sampling parameters",
    "log-probabilities",
    "several choices",
    "JSON schema",
    "required tool",
    "named tool",
    "optional tool",
    "tool call in a stream",
    "result of a tool",
    "text completion",
    "unknown model",
    "prompt too long",
    "cancel by closing the stream",
)
_PAUSE = threading.Event()


@dataclass(frozen=True, slots=True)
class Target:
    """The API under test: its address without `/v1`, and the chat model."""

    url: str
    model: str

    @property
    def base_url(self) -> str:
        """The address that OpenAI's clients want."""
        return f"{self.url}/v1"

    def newest_job(self) -> dict[str, Any]:
        """Return the document of the job that was submitted last."""
        with urllib.request.urlopen(f"{self.url}/v1/jobs?limit=1", timeout=WAIT_S) as response:
            return dict(json.load(response)["jobs"][0])

    def wait_until_canceled(self) -> None:
        """Wait until the newest job has ended. Raises `AssertionError` unless it was canceled."""
        deadline = time.monotonic() + WAIT_S
        while (state := self.newest_job()["state"]) in ("queued", "running") and time.monotonic() < deadline:
            _PAUSE.wait(0.05)
        assert state == "canceled", f"the job of the closed stream is {state}"


#: A check raises an error if the feature does not work. Its result is a remark, or None.
Check = Callable[[Target], str | None]


class Checks:
    """The checks of the client that the package `package` contains."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._checks: dict[str, Check] = {}
        self._lacks: dict[str, str] = {}

    def feature(self, name: str) -> Callable[[Check], Check]:
        """Register the decorated function as the check of a feature."""

        def register(check: Check) -> Check:
            self._checks[name] = check
            return check

        return register

    def lacks(self, name: str, reason: str) -> None:
        """Say that the client has no such feature, and why."""
        self._lacks[name] = reason

    def run(self, target: Target, wanted: Collection[str] = FEATURES) -> bool:
        """Run the checks of the wanted features, and print their results. Return True if none fails."""
        version, good = importlib.metadata.version(self.package), True
        for name in sorted({*self._checks, *self._lacks} & {*wanted}, key=FEATURES.index):
            if name in self._lacks:
                status, detail = "lacks", self._lacks[name]
            else:
                status, detail = _run_check(self._checks[name], target)
            good = good and status != "fails"
            result = {"client": self.package, "version": version, "feature": name}
            sys.stdout.write(json.dumps(result | {"status": status, "detail": detail}) + "\n")
            sys.stdout.flush()
        return good

    def main(self) -> None:
        """Run the checks against the API and the model that the command line names, and exit.

        Further arguments are the wanted features.
        """
        url, model, *wanted = sys.argv[1:]
        raise SystemExit(not self.run(Target(url, model), wanted or FEATURES))


def _run_check(check: Check, target: Target) -> tuple[str, str]:
    try:
        return "works", check(target) or ""
    except Exception as error:  # whatever a client raises is the result
        return "fails", f"{type(error).__name__}: {error}"[:500]


def error_of(kind: type[Error], call: Callable[[], object]) -> Error:
    """Return the error that `call` raises. Raises `AssertionError` if it raises none."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("an answer")


def weather_of(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call of `get_weather`, from their JSON text."""
    return check_weather(json.loads(arguments))


def check_weather(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a call of `get_weather`. Raises `AssertionError` if CITY forbids them."""
    assert set(arguments) == {"city", "days"}, arguments
    assert arguments["city"] in CITY["properties"]["city"]["enum"], arguments
    assert arguments["days"] in CITY["properties"]["days"]["enum"], arguments
    return dict(arguments)
