"""The documents and the form of OpenAI's file routes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from webapi.description.parts import Json
from webapi.files.file import File

__all__ = ["FILE_FORM", "FileDeleted", "FileList", "FileListing", "FileObject", "FileRequest"]

#: The form of an upload, as JSON schema.
FILE_FORM: Json = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "contentMediaType": "application/jsonl",
                 "description": "The requests of a batch, a line of JSON for each."},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": ["file", "purpose"],
    "additionalProperties": True,
}  # fmt: skip


class FileRequest(BaseModel):
    """The texts of an upload's form. Other fields are ignored."""

    purpose: Literal["batch"]
    anchor: Literal["created_at"] = Field("created_at", alias="expires_after[anchor]")
    seconds: int | None = Field(None, ge=3600, le=2_592_000, alias="expires_after[seconds]")


class FileObject(BaseModel):
    """A file. Times are in seconds since the epoch."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def from_file(cls, file: File) -> "FileObject":
        """Return the document of the file."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=int(file.created_at),
            expires_at=int(file.expires_at),
            filename=file.filename,
            purpose=file.purpose,
        )


class FileListing(BaseModel):
    """The query of a list of files. The page starts with the file that follows `after`."""

    model_config = ConfigDict(extra="ignore")

    after: str | None = None
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """The confirmation that a file was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
