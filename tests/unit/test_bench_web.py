"""The benchmark of the API: what it does where it cannot have what it needs."""

import asyncio
import subprocess
import sys

import pytest

from bench.web import open_streams
from tests.integration.stack import free_port

JOBS = [{"links": {"events": f"/v1/jobs/{n}/events"}} for n in range(3)]


def test_a_stream_that_cannot_be_opened_ends_the_benchmark() -> None:
    streams = open_streams(f"http://127.0.0.1:{free_port()}", JOBS, lambda: None)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        asyncio.run(asyncio.wait_for(streams, 10))


def test_it_may_open_as_many_files_as_the_system_lets_it() -> None:
    program = """
from resource import RLIMIT_NOFILE as files, getrlimit, setrlimit
from bench.web import allow_files
setrlimit(files, (64, 512))
for count in 100, 9999, 9:
    allow_files(count)
    print(getrlimit(files))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["(100, 512)", "(512, 512)", "(512, 512)", ""]
