"""The pages of OpenAI's lists, which begin behind the id of an object."""

from collections.abc import Sequence
from itertools import dropwhile
from typing import Protocol, TypeVar

__all__ = ["list_page"]


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=_Identified)


def list_page(found: Sequence[Item], after: str | None, limit: int) -> tuple[Sequence[Item], bool]:
    """Return up to `limit` objects behind the one with the id `after`, and whether there are more."""
    rest = list(found)
    if after is not None:
        rest = list(dropwhile(lambda each: each.id != after, rest))[1:]
    return rest[:limit], len(rest) > limit
