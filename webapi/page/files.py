"""The files of the page, read once and compressed."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import PurePosixPath

__all__ = ["PageFile", "page_file"]

#: The media types of the page's files, by the ends of their names. Files of other types are not served.
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file: its content, the same content compressed by gzip, and a tag that changes with the content."""

    media_type: str
    content: bytes
    gzipped: bytes
    etag: str


@lru_cache(maxsize=128)
def page_file(name: str) -> PageFile:
    """Return the file with this path below the folder `static`. Raises `FileNotFoundError`."""
    path = PurePosixPath(name)
    media_type = MEDIA_TYPES.get(path.suffix)
    if media_type is None or ".." in path.parts or path.is_absolute() or "\0" in name:
        raise FileNotFoundError(name)
    content = files("webapi.page").joinpath("static", *path.parts).read_bytes()
    etag = hashlib.sha256(content).hexdigest()[:16]
    return PageFile(media_type, content, gzip.compress(content, 9, mtime=0), etag)
