"""The terminal of a command, which may lack some characters."""

import io
import sys

__all__ = ["show_any_text"]


def show_any_text() -> None:
    """Print a question mark for each character that the terminal's encoding lacks, instead of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
