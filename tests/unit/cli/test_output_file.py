"""The file of a result: what cannot be one is refused before the job."""

import os
from pathlib import Path

import click
import pytest

from webapi.cli.output_file import check_output


def test_output_file_may_be_new_or_replace_another_file(tmp_path: Path) -> None:
    clip, old = tmp_path / "clip.mp4", tmp_path / "old.mp4"
    clip.touch()
    old.touch()
    for output in (tmp_path / "new.mp4", tmp_path / ("a" * 251 + ".mp4"), old):
        check_output(output, clip)
    assert sorted(tmp_path.iterdir()) == [clip, old]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/dev/null", "not a regular file"),
        ("pipe", "not a regular file"),
        ("clip.mp4", "this is the clip itself"),
        ("link.mp4", "this is the clip itself"),
        ("a" * 256, "File name too long"),
        ("none/out.mp4", "No such file or directory"),
        ("clip.mp4/out.mp4", "Not a directory"),
    ],
)
def test_output_file_that_cannot_be_one_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.mp4").symlink_to(clip)
    with pytest.raises(click.ClickException, match=rf"{reason}: choose another .*with -o$"):
        check_output(tmp_path / name, clip)
