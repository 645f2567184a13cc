"""Side data of frames, such as their orientation. PyAV raises an error for kinds that it has no name for."""

from __future__ import annotations

from typing import Any

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

__all__ = ["side_data"]


def side_data(frame: VideoFrame, kind: str) -> bytes | None:
    """Return the frame's side data of the kind with this name in PyAV, or None. Unknown kinds are skipped."""
    # Enum calls this method for a number without a name. libav adds kinds faster than PyAV names them.
    setattr(Type, "_missing_", classmethod(_unnamed))  # noqa: B010  # mypy forbids to assign a method
    found: Any = frame.side_data  # PyAV's stub does not know its keys
    wanted = Type[kind]
    return bytes(found[wanted]) if wanted in found else None


def _unnamed(cls: type[Type], number: object) -> Type:
    """Return a member of the enum that has no name in it."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{number}", number
    unnamed: Type = member
    return unnamed
