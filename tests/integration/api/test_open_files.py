"""The streams that an API process can hold on a system that allows few open files at first."""

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench.web import open_streams
from tests.support.web.webstack import serve

FILES, STREAMS = 64, 100


@pytest.mark.long
def test_open_files_streams_exceed_the_initial_limit(redis_url: str, tmp_path: Path) -> None:
    with serve(redis_url, tmp_path, {resource.RLIMIT_NOFILE: FILES}) as web:
        jobs = [web.job(web.submit()) for _ in range(STREAMS)]

        def cancel() -> None:
            for job in jobs:
                web.ledger.cancel(job["id"])

        asyncio.run(asyncio.wait_for(open_streams(str(web.http.base_url), jobs, cancel), 60))


def test_open_files_limit_stays_within_the_hard_limit() -> None:
    program = """
from resource import RLIMIT_NOFILE as files, getrlimit, setrlimit
from webapi.http.open_files import raise_limit
setrlimit(files, (64, 2048))
for connections in 100, 9999, 9:
    raise_limit(connections)
    print(getrlimit(files))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1100, 2048)", "(2048, 2048)", "(2048, 2048)"]
