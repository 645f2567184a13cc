"""The home folder: only its user can access it, unless it is not Stoker's alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.jobs.home import protect_home


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_is_made_for_its_user_only(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    protect_home(home)
    (home / "logs").mkdir()
    (home / "logs" / "web.log").touch()
    found = [mode(path) for path in (home, home / "logs", home / "logs" / "web.log")]
    assert found == [0o700, 0o700, 0o600]


def test_home_of_earlier_release_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    protect_home(home)
    assert mode(home) == 0o700


def test_home_that_others_use_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user := tmp_path / "user").mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(user))
    (sticky := tmp_path / "sticky").mkdir()
    sticky.chmod(0o1777)
    for home in (user, sticky):
        before = mode(home)
        protect_home(home)
        assert mode(home) == before
