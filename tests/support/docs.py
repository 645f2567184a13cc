"""The pages of the documentation, and the code blocks in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BLOCKS", "PAGES", "ROOT", "TEXTS", "Block", "commands", "lines", "prose"]

ROOT = Path(__file__).parents[2]
#: Pages whose code blocks and links are tested.
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
]
PAGES = [page for page in PAGES if page.exists()]
#: The same, and the page that only has links.
TEXTS = [*PAGES, ROOT / "CHANGELOG.md"]

_FENCE = re.compile(r"( *)(`{3,})(\w*)")
#: Operators of the shell between two commands, and those that redirect.
_BETWEEN, _REDIRECT = {"|", "||", "&&", ";", "&"}, {">", ">>", "<"}


@dataclass(frozen=True)
class Block:
    """A fenced code block; `line` is that of its opening fence, from 1."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    lines = enumerate(page.read_text().splitlines(), 1)
    name = str(page.relative_to(ROOT))
    for start, line in lines:
        if not (fence := _FENCE.match(line)):
            continue
        indent, ticks, language = fence.groups()
        inside = []
        for _, text in lines:
            if text.strip() == ticks:
                break
            inside.append(text.removeprefix(indent))
        else:
            raise ValueError(f"{name}:{start}: the block does not end")
        yield Block(name, start, language, "\n".join(inside) + "\n")


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def prose(page: Path) -> str:
    """Return the page without its code blocks and inline code."""
    lines, text, fenced = page.read_text().splitlines(), [], False
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            text.append(line)
    return re.sub(r"`[^`]*`", "", "\n".join(text))


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command that a `console` or `sh` block shows, without redirections.

    The command whose output a variable gets, as in `ID=$(...)`, is yielded without the variable.
    """
    for line in lines(block):
        yield from _split(re.sub(r"^(?:export )?[A-Z_]+=\$\((.*?)\)( *#.*)?$", r"\1", line))


def lines(block: Block) -> Iterator[str]:
    """Yield the lines that a `console` or `sh` block gives to the shell."""
    prompt = "$ " if block.language == "console" else ""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and line.startswith(prompt):
            yield line.removeprefix(prompt)


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in _REDIRECT:
            next(lexer)
        elif word in _BETWEEN:
            yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words
