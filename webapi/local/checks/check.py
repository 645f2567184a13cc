"""The result of one check."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["GIB", "Check"]

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check. `advice` says what to do, and is empty if all is well."""

    name: str
    state: Literal["ok", "warning", "fault"]
    found: str
    advice: str = ""
