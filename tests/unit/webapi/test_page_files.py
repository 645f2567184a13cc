"""Tests of the page's files: their weight, what they import, and the library among them."""

import hashlib
import re
from pathlib import Path, PurePosixPath

import pytest

import webapi.page
from webapi.page.files import page_file

STATIC = Path(webapi.page.__file__).parent / "static"
NAMES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
SCRIPTS = [name for name in NAMES if name.endswith(".js") and not name.startswith("vendor/")]
#: The most bytes of the whole page over the wire, with 300 bytes of headers for each file.
MOST_BYTES = 150_000
#: The file `lib/marked.esm.js` of npm's `marked` 18.2.1.
MARKED = "5371fea86fd0656b4fc7bea7c94c663109d82789b69433eeee78d42895aa44de"


def test_page_files_weigh_little() -> None:
    assert sum(len(page_file(name).gzipped) + 300 for name in NAMES) < MOST_BYTES


@pytest.mark.parametrize("name", SCRIPTS)
def test_page_script_imports_only_files_of_the_page(name: str) -> None:
    source = (STATIC / name).read_text()
    for target in re.findall(r'^(?:import|export)[^"]* from "([^"]+)"', source, re.MULTILINE):
        assert (STATIC / name).parent.joinpath(PurePosixPath(target)).resolve().is_file(), target
    assert "innerHTML" not in source
    assert "insertAdjacentHTML" not in source


def test_page_markdown_library_is_as_published() -> None:
    assert hashlib.sha256((STATIC / "vendor/marked.esm.js").read_bytes()).hexdigest() == MARKED


@pytest.mark.parametrize(
    "name", ["", "css", "x.js", "vendor/marked.esm.js.map", "../files.py", "/x.txt", "\0.js"]
)
def test_page_file_unknown(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        page_file(name)
