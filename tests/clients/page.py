"""The page `docs/clients.md`, made from the results of the clients' programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PAGE", "Result", "page_of", "parse_result"]

PAGE = Path(__file__).parents[2] / "docs/clients.md"

INTRODUCTION = """\
<!-- `make client-features` writes this page. -->

# Clients tested

These clients of other projects talk to [the OpenAI-compatible API](openai-api.md) of a stack with a real
model, SmolLM2-135M-Instruct on the transformers engine. `make client-features` installs each of them into an
environment of its own, uses every feature, checks the answers, and writes this page. The programs are in
`tests/clients`.

*no* means that the client has no such feature. The reason is below the table. An empty cell is a feature
that is not tested with this client. The model must call a *required* or *named* tool. It decides whether to
call an *optional* one.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one feature of one client. `detail` is the error, or a remark."""

    client: str
    version: str
    feature: str
    status: Literal["works", "lacks", "fails"]
    detail: str

    def __str__(self) -> str:
        return f"{self.client} {self.version}: {self.feature}: {self.status} {self.detail}".rstrip()


def parse_result(line: str) -> Result:
    """Return the result that a program prints as JSON."""
    return Result(**json.loads(line))


def page_of(results: Sequence[Result]) -> str:
    """Return the page: a table of the features of each client, and the remarks."""
    return "\n".join([INTRODUCTION, *_table(results), "", *_remarks(results)])


def _table(results: Sequence[Result]) -> Iterator[str]:
    clients = dict.fromkeys((result.client, result.version) for result in results)
    cells = {(result.client, result.feature): _CELLS[result.status] for result in results}
    yield _row("", *(f"{client} {version}" for client, version in clients))
    yield _row(*["---"] * (len(clients) + 1))
    for feature in dict.fromkeys(result.feature for result in results):
        yield _row(feature, *(cells.get((client, feature), "") for client, _ in clients))


_CELLS = {"works": "works", "lacks": "no", "fails": "**fails**"}


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _remarks(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        if result.detail:
            yield f"- {result.client}, {result.feature}: {result.detail}"
