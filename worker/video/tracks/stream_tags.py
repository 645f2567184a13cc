"""Keeps what a stream says about itself."""

from __future__ import annotations

from av.stream import Stream

__all__ = ["copy_stream_tags"]

#: The names that libav gives tags in some container, and those under which they are kept. MP4 has `name`s.
_TAGS = {"language": "language", "handler_name": "handler_name", "title": "title", "name": "title"}


def copy_stream_tags(source: Stream, target: Stream) -> None:
    """Give `target` the language, the title and the disposition (such as: the default one) of `source`."""
    tags = {_TAGS[name]: value for name, value in source.metadata.items() if name in _TAGS}
    target.metadata.update(tags)
    target.disposition = source.disposition
