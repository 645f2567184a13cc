"""The real command line in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.web.webstack import TIMEOUT_S

__all__ = ["ASCII", "PROXIES", "PROXY", "run_stoker", "stoker_argv", "stoker_env"]

#: Nobody listens there.
PROXY = "http://127.0.0.1:1"
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"), PROXY)
#: A locale in whose encoding Stoker's own files cannot be read, such as zh_CN.GB18030.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def stoker_argv(*arguments: object) -> list[str]:
    """Return the command line of `stoker` with these arguments."""
    return [sys.executable, "-m", "webapi.cli", *map(str, arguments)]


def stoker_env(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment with these variables and this `STOKER_HOME`.

    It has no other variables of Stoker, and no proxies.
    """
    env = {name: value for name, value in os.environ.items() if not re.match("(?i)STOKER_|.*_PROXY$", name)}
    return env | {"STOKER_HOME": str(home)} | variables


def run_stoker(home: Path, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `stoker` with these arguments in the environment of `stoker_env`, and return what it printed."""
    env = stoker_env(home, **variables)
    return subprocess.run(
        stoker_argv(*arguments), env=env, capture_output=True, timeout=3 * TIMEOUT_S, check=False
    )
