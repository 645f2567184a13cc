"""Work of an upload that must not hold up other clients, under gevent as in the API."""

import subprocess
import sys
from pathlib import Path

PATCH = "from gevent import monkey; monkey.patch_all()\nimport gevent, os, sys\nfrom pathlib import Path\n"
WRITE = """
from webapi.submission.free_space import FreeSpace
from webapi.submission.multipart import PartFile
other = gevent.spawn(lambda: None)
folder = Path(sys.argv[1])
with PartFile(folder / "part1", FreeSpace(folder, 0)) as file:
    file.write(b"a block")
assert other.dead
"""
#: The call ends only after another greenlet has written to the pipe.
CALL = """
from webapi.services.system_threads import call_in_thread
reader, writer = os.pipe()
gevent.spawn(os.write, writer, b"done")
assert call_in_thread(os.read, reader, 4) == b"done"
try:
    call_in_thread(os.read, -1, 4)
except OSError:
    print("raised")
"""


def run(program: str, folder: Path) -> str:
    command = [sys.executable, "-c", PATCH + program, str(folder)]
    return subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout


def test_part_file_serves_others_after_each_block(tmp_path: Path) -> None:
    run(WRITE, tmp_path)


def test_call_in_thread_serves_others_and_raises_errors(tmp_path: Path) -> None:
    assert run(CALL, tmp_path) == "raised\n"
