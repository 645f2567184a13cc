"""The poll of an API process, which must not wait for gevent's loop if it need not."""

import select
import socket
from collections.abc import Iterator

import gevent
import pytest

from webapi.server.ready_poll import ReadyPoll


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two sockets that are connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def polled(ours: socket.socket) -> ReadyPoll:
    poll = ReadyPoll()
    poll.register(ours, select.POLLIN)
    return poll


def switches(poll: ReadyPoll, timeout: float | None) -> int:
    """Poll with this timeout, and return how often another greenlet had a turn meanwhile."""
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    other = gevent.spawn(count)
    poll.poll(timeout)
    found = turns
    other.join()
    return found


def test_poll_without_timeout_answers_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    poll = polled(ours)
    assert poll.poll(0) == []
    assert switches(poll, 0) == 0
    theirs.send(b"data")
    assert poll.poll(0) == [(ours.fileno(), select.POLLIN)]
    assert switches(poll, None) == 0


def test_poll_with_timeout_lets_other_greenlets_run(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    poll = polled(ours)
    assert switches(poll, 1) == 1
    gevent.spawn(theirs.send, b"data")
    assert poll.poll(None) == [(ours.fileno(), select.POLLIN)]


def test_poll_shows_closed_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    (descriptor, events), *_ = polled(ours).poll(0)
    assert descriptor == ours.fileno()
    assert events & select.POLLIN


def test_unregistered_descriptor_is_not_polled(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    poll = polled(ours)
    poll.unregister(ours)
    theirs.send(b"data")
    assert poll.poll(0) == []
