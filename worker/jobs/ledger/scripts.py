"""The Lua scripts: what the ledger does atomically, run by their hashes."""

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError

__all__ = ["Scripts"]

T = TypeVar("T")

#: What all scripts share, in this order: a job's keys and events, the queues, the endings.
SHARED = ("prelude", "queue", "ending")


class Scripts:
    """The Lua scripts, each behind the shared ones."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client
        folder = resources.files(__package__).joinpath("lua")
        self._shared = "".join(folder.joinpath(f"{name}.lua").read_text() for name in SHARED)
        self._folder = folder
        self._shas: dict[str, str] = {}

    def sha(self, name: str) -> str:
        """The script's hash, loading it into Redis on first use."""
        if name not in self._shas:
            source = self._folder.joinpath(f"{name}.lua").read_text()
            self._shas[name] = self.client.script_load(self._shared + source)
        return self._shas[name]

    def eval(self, name: str, *args: Any) -> Any:
        """Run one script."""
        return self._loaded(lambda: self.client.evalsha(self.sha(name), 0, *args))

    def eval_all(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run one script once a call, all in one round trip."""
        return self._loaded(lambda: self._eval_all(name, calls))

    def _loaded(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except NoScriptError:  # Redis was restarted; nothing of this was run
            self._shas.clear()
            return run()

    def _eval_all(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        sha = self.sha(name)
        with self.client.pipeline(transaction=False) as pipe:
            for args in calls:
                pipe.evalsha(sha, 0, *args)
            return pipe.execute()
