"""Text files are UTF-8 in every locale, so the code never leaves their encoding to the locale."""

import ast
from pathlib import Path

import pytest

from tests.support.docs import ROOT

SOURCES = [path for folder in ("webapi", "worker", "bench", "docs") for path in (ROOT / folder).rglob("*.py")]
MODES = {f"{mode}{plus}" for mode in "rwax" for plus in ("", "+", "t")}


def leaves_encoding_to_locale(call: ast.Call) -> bool:
    """Return whether the call, judged by its name, reads or writes a text file and names no encoding."""
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if isinstance(call.func, ast.Attribute):
        if call.func.attr in ("read_text", "write_text"):
            return len(call.args) < (1 if call.func.attr == "read_text" else 2)
        if call.func.attr != "open" or getattr(call.func.value, "id", "") == "av":
            return False
    elif getattr(call.func, "id", "") != "open":
        return False
    return any(isinstance(each, ast.Constant) and each.value in MODES for each in call.args)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_names_the_encoding_of_text_files(source: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(source.read_bytes())) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if leaves_encoding_to_locale(call)] == []
