"""The file of a result, checked before its job is submitted."""

import tempfile
from pathlib import Path

import click

__all__ = ["check_output"]


def check_output(output: Path, clip: Path) -> None:
    """Raise an error now, and not after the job, if the result of the clip cannot be saved as `output`.

    The finished file takes the place of an older one. It must not take that of the clip, or of a device such
    as `/dev/null`.
    """
    folder = output.absolute().parent
    try:
        if output.exists() and not output.is_file():
            raise click.ClickException(f"{output}: not a regular file: choose another one with -o")
        if output.exists() and output.samefile(clip):
            raise click.ClickException(f"{output}: this is the clip itself: choose another file with -o")
    except OSError as error:  # such as a name that is too long
        raise click.ClickException(f"{output}: {error.strerror}: choose another file with -o") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}: choose another file with -o") from error
