"""A proxy in front of Redis whose connections a test can cut off without closing them."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["HalfOpenProxy"]

T = TypeVar("T")


class HalfOpenProxy:
    """Forwards TCP connections to a Unix socket, or to a port of this machine, in a thread of its own."""

    def __init__(self, target: Path | int) -> None:
        self.port = 0
        #: Where the next connections go.
        self.target = target
        self._loop = asyncio.new_event_loop()
        #: The tasks that forward bytes. Without them a connection stays open, and nothing passes.
        self._forwarding: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connect, "127.0.0.1"))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_off(self) -> None:
        """Forward nothing more on the connections of now, and close none of them: the peer has vanished."""
        self._run(self._cut_off())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _cut_off(self) -> None:
        for task in self._forwarding:
            task.cancel()

    async def _close(self) -> None:
        self._server.close()
        await self._cut_off()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)
        for writer in self._writers:
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.target, int):
                redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self.target)
            else:
                redis_reader, redis_writer = await asyncio.open_unix_connection(self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, redis_writer}  # a writer that is collected would close its connection
        pair = [self._forward(reader, redis_writer), self._forward(redis_reader, writer)]
        tasks = {asyncio.create_task(direction) for direction in pair}
        self._forwarding |= tasks
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        self._forwarding -= tasks

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
