"""The part of an error's traceback that belongs to the author's code."""

from __future__ import annotations

import traceback
from pathlib import Path

from worker.jobs.errors import StokerError
from worker.video.check import watched_model
from worker.video.models import find

__all__ = ["authors_traceback"]

#: The files that call the author's code.
CALLERS = {watched_model.__file__, find.__file__}


def authors_traceback(error: Exception) -> str:
    """Return the traceback of the exception that has caused `error`, from the author's code on.

    Return an empty text if the author's code has raised nothing.
    """
    cause: BaseException | None = error
    while isinstance(cause, StokerError):
        cause = cause.__cause__
    if cause is None:
        return ""
    here = authors = cause.__traceback__
    while here:
        file, here = here.tb_frame.f_code.co_filename, here.tb_next
        if file in CALLERS or "importlib" in Path(file).parts or file.startswith("<frozen importlib"):
            authors = here
    if authors is None and not isinstance(cause, SyntaxError):  # its text has the line
        return ""
    return "".join(traceback.format_exception(type(cause), cause, authors))
