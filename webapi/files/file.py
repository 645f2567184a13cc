"""One file of `/v1/files`, without its content."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["File"]


@dataclass(frozen=True, slots=True)
class File:
    """A file that a client has uploaded, or that a batch has written. Times are seconds since the epoch."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float

    @classmethod
    def from_hash(cls, file_id: str, fields: Mapping[str, str]) -> Self:
        """Return the file in the fields of its Redis hash."""
        return cls(
            file_id,
            fields["owner"],
            fields["filename"],
            fields["purpose"],
            int(fields["bytes"]),
            float(fields["created_at"]),
            float(fields["expires_at"]),
        )

    @property
    def key(self) -> str:
        """The key of its content in the media store."""
        return f"files/{self.id}"
