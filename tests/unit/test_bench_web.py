"""The benchmark of the API: what it does where it cannot have what it needs."""

import asyncio

import pytest

from bench.web import open_streams
from tests.support.stack import free_port

JOBS = [{"links": {"events": f"/v1/jobs/{n}/events"}} for n in range(3)]


def test_a_stream_that_cannot_be_opened_ends_the_benchmark() -> None:
    streams = open_streams(f"http://127.0.0.1:{free_port()}", JOBS, lambda: None)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        asyncio.run(asyncio.wait_for(streams, 10))
