"""The size of a clip's pictures."""

from __future__ import annotations

import re
from typing import NamedTuple, Self


class ClipSize(NamedTuple):
    """In pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `1280x720`. Raises ValueError."""
        if not (found := re.fullmatch(r"\s*([1-9]\d{0,4})x([1-9]\d{0,4})\s*", text)):
            raise ValueError(f"{text!r} is not a size such as 1280x720")
        return cls(int(found[1]), int(found[2]))
