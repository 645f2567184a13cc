"""Tests of the API's benchmark in an environment that lacks something it needs."""

import asyncio

import pytest

from bench.web import open_streams
from tests.support.stack import free_port

JOBS = [{"links": {"events": f"/v1/jobs/{n}/events"}} for n in range(3)]


def test_open_streams_fails_if_a_stream_cannot_open() -> None:
    streams = open_streams(f"http://127.0.0.1:{free_port()}", JOBS, lambda: None)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        asyncio.run(asyncio.wait_for(streams, 10))
