"""Tests of listings that refresh in place."""

from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from webapi.cli.listing import Tables, watch
from webapi.cli.main import main
from webapi.client.errors import ApiUnavailable


class Looks:
    """An API whose listing changes, and which is away at the third look. The user ends the fourth one."""

    def __init__(self) -> None:
        self.count = 0

    def read(self) -> Tables:
        if self.count == 2:
            raise ApiUnavailable("the API is away")
        return [("JOB STATE", [[f"[job]{self.count}", "running"]])]

    def wait(self, _: float) -> None:
        self.count += 1
        if self.count == 4:
            raise KeyboardInterrupt


def shown(*, no_color: bool = False) -> str:
    looks, output = Looks(), StringIO()
    watch(looks.read, Console(file=output, width=80, force_terminal=True, no_color=no_color), looks.wait)
    return output.getvalue()


def test_watch_refreshes_in_place_and_survives_an_api_that_is_away() -> None:
    text = shown(no_color=True)
    places = [
        text.index(part)
        for part in ("[job]0", "[job]1", "the API is away; the next look is in 2 s", "[job]3")
    ]
    assert places == sorted(places)
    assert text.count("\x1b[1A\x1b[2K") >= 3  # the cursor goes up and clears the line
    assert "\x1b[3" not in text
    assert "\x1b[32mrunning" in shown()


def test_watch_never_cuts_an_id() -> None:
    job_id, output = 32 * "a", StringIO()

    def end(_: float) -> None:
        raise KeyboardInterrupt

    console = Console(file=output, width=60, force_terminal=True)
    watch(lambda: [("JOB KIND STATE WORKER", [[job_id, "chat", "running", 40 * "w"]])], console, end)
    assert job_id in output.getvalue()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["status", "--watch"], "--watch needs a terminal: leave it out to print the listing once"),
        (["jobs", "--watch", "--json"], "--json and --watch exclude each other: choose one"),
    ],
)
def test_watch_says_why_it_cannot(command: list[str], reason: str) -> None:
    result = CliRunner().invoke(main, [*command, "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: {reason}\n")
