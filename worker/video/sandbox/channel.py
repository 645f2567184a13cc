"""The messages between a worker and a sandbox."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Channel"]

#: The longest message in bytes. The longest ones name all segments of a clip.
MAX_MESSAGE_BYTES = 2**24


class Channel:
    """One end of the connection. A message is a line of JSON. Pixels follow it if both sides expect them.

    Nothing is pickled, because a hostile file may control what a sandbox sends. All methods raise
    ConnectionError if the other side has ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message. Values that are not of JSON, such as paths and fractions, become strings."""
        self._connection.sendall(json.dumps(message, default=str).encode() + b"\n")

    def send_pixels(self, pixels: NDArray[np.uint8]) -> None:
        """Send the array's bytes. Its shape is not sent."""
        self._connection.sendall(np.ascontiguousarray(pixels).data)

    def receive(self) -> dict[str, Any]:
        """Wait for the next message and return it."""
        line = self._stream.readline(MAX_MESSAGE_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection ends before a message does")
        return dict(json.loads(line))

    def has_message(self) -> bool:
        """Return whether a message has come after the last one that was received. Do not wait for it."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def receive_pixels(self, buffer: NDArray[np.uint8]) -> None:
        """Wait for the bytes of an array, and fill `buffer` with them."""
        if self._stream.readinto(buffer.data.cast("B")) < buffer.nbytes:
            raise ConnectionError("the connection ends before the pixels do")

    def shut_down(self) -> None:
        """End the connection on both sides. A thread that waits for it gets a ConnectionError."""
        with suppress(OSError):  # the other side has ended it
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end. No thread may be waiting for it."""
        self._stream.close()
        self._connection.close()
