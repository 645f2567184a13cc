"""Run the checks of all clients against a stack with a real model, and write their table (`make clients`).

`python -m tests.clients.features langchain llm` runs only these two, and writes no page.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.clients.page import PAGE, Result, page_of, parse_result
from tests.clients.stack import CHAT, client_stack

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-clients"
NPM = ROOT / "tests/clients/npm"
NODE = NPM / "node_modules/.bin/node"
TIMEOUT_S = 600

#: The programs, by the name of their environment or file. Those of npm share one environment.
PYTHON = (
    "openai_python", "langchain", "litellm", "pydantic_ai", "instructor", "llama_index", "llm", "lm_eval"
)  # fmt: skip
NODE_PROGRAMS = ("openai_npm", "ai_sdk")


def command_of(program: str) -> Sequence[str]:
    """Return the command that runs a client's program in its environment."""
    if program in NODE_PROGRAMS:
        return [str(NODE), str(NPM / f"{program}.mjs")]
    return [str(ENVIRONMENTS / program / "bin/python"), "-m", f"tests.clients.programs.{program}"]


def run_program(program: str, url: str, folder: Path) -> Iterator[Result]:
    """Run a client's program and yield its results. Raises `SystemExit` if the program itself fails."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [*command_of(program), url, CHAT]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    results = [parse_result(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not results:
        raise SystemExit(f"{program} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    yield from results


def main(programs: Sequence[str]) -> None:
    """Run the clients and print the results. Exit with 1 if a feature fails."""
    results: list[Result] = []
    with client_stack() as (stack, folder):
        for program in programs or PYTHON + NODE_PROGRAMS:
            for result in run_program(program, stack.settings.url, folder):
                results.append(result)
                sys.stdout.write(f"{result}\n")
                sys.stdout.flush()
    if not programs:
        PAGE.write_text(page_of(results))
    if any(result.status == "fails" for result in results):
        raise SystemExit("some features fail")


if __name__ == "__main__":
    main(sys.argv[1:])
