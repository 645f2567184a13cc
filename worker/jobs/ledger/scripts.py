"""The Lua scripts, which make each change of the ledger one atomic step."""

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError

from worker.jobs.ledger.definitions import Definitions
from worker.jobs.ledger.pending_reply import PendingReply
from worker.jobs.ledger.replicas import Replicas
from worker.jobs.metrics.catalog import lua_boundaries

__all__ = ["Scripts"]

T = TypeVar("T")

#: Files of shared definitions, in this order: keys and events, metrics, Celery messages, the order of waiting
#: jobs, accounts of owners, segments of videos, final states.
SHARED = ("prelude", "metrics", "messages", "queue", "account", "segments", "final")


class Scripts:
    """The scripts of the folder `lua`, by file name. They run in Redis by their SHA-1 hashes (EVALSHA)."""

    def __init__(self, client: "redis.Redis", replicas: Replicas) -> None:
        self.client = client
        self._replicas = replicas
        self._folder = resources.files(__package__).joinpath("lua")
        self._shas: dict[str, str] = {}

    @cached_property
    def _shared(self) -> str:
        # Celery is imported here, because a program that runs no script should not wait for it.
        from worker.jobs.connection.envelope import task_envelope

        files = [self._folder.joinpath(f"{name}.lua").read_text("utf-8") for name in SHARED]
        return "".join((lua_boundaries(), f"local ENVELOPE = [==[{task_envelope()}]==]\n", *files))

    @cached_property
    def _definitions(self) -> Definitions:
        return Definitions(self._shared)

    def sha(self, name: str) -> str:
        """Return the script's hash. The first call loads the script into Redis."""
        if name not in self._shas:
            source = self._folder.joinpath(f"{name}.lua").read_text("utf-8")
            self._shas[name] = self.client.script_load(self._definitions.used_by(source) + source)
        return self._shas[name]

    def eval(self, name: str, *args: Any) -> Any:
        """Run one script and return its reply."""
        return self._retry_unloaded(lambda: self.client.evalsha(self.sha(name), 0, *args))

    def send(self, name: str, *args: Any) -> PendingReply:
        """Send one script to Redis. Its reply is read later, and may be a `NoScriptError`."""
        return PendingReply(self.client, "EVALSHA", self.sha(name), 0, *args)

    def eval_replicated(self, name: str, *args: Any) -> Any:
        """Run one script and return its reply when the replicas have its writes. Raises `NotReplicated`."""
        if not self._replicas.needed:
            return self.eval(name, *args)
        return self._retry_unloaded(
            lambda: self._replicas.run(lambda pipe: pipe.evalsha(self.sha(name), 0, *args))[0]
        )

    def eval_all(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run one script once for each tuple of arguments, all in one round trip. Return the replies."""
        return self._retry_unloaded(lambda: self._eval_all(name, calls))

    def _retry_unloaded(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except NoScriptError:  # Redis was restarted and has lost the scripts, so none of the calls has run
            self._shas.clear()
            return run()

    def _eval_all(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        sha = self.sha(name)
        with self.client.pipeline(transaction=False) as pipe:
            for args in calls:
                pipe.evalsha(sha, 0, *args)
            return pipe.execute()
