"""The slots of uploads and probes: their numbers, and what becomes of them if a process is killed."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import eventually
from webapi.submission.slots import Slots, probe_slot, upload_slot
from worker.jobs.errors import TooManyUploads
from worker.jobs.settings import Settings

SETTINGS: dict[str, Any] = {"max_uploads": 3, "max_uploads_per_key": 2, "max_probes": 3}
#: A process that lives until its stdin ends.
IDLE = [sys.executable, "-c", "import sys; sys.stdin.read()"]
#: A process that takes a slot, says so, and keeps it.
HOLDER = (
    "import sys; from pathlib import Path; from webapi.submission.slots import Slots\n"
    "file = Slots(Path(sys.argv[1]), 1).take(); print('taken', flush=True); sys.stdin.read()"
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, **SETTINGS)


def test_slots_are_taken_until_their_file_is_closed(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 2)
    with slots.wait():
        first = slots.wait()
        assert slots.take() is None
        first.close()
        with slots.wait():
            assert slots.take() is None


def test_slot_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 1)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "taken\n"
        assert slots.take() is None
        holder.kill()
    with slots.wait():
        pass


def test_slot_is_taken_until_the_child_that_inherits_it_has_ended(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 1)
    with slots.wait() as file:
        child = subprocess.Popen(IDLE, stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    with child:
        assert slots.take() is None
    eventually(slots.take, "the slot").close()


def test_upload_slot_refuses_too_many_of_a_key_and_too_many_in_all(settings: Settings) -> None:
    with ExitStack() as stack:
        for owner in ("a", "a", "b"):
            stack.enter_context(upload_slot(settings, owner))
        for owner, message in (("a", "API key may send 2"), ("c", "together may send 3")):
            with pytest.raises(TooManyUploads, match=message), upload_slot(settings, owner):
                pass
    with upload_slot(settings, "a"):
        pass


def test_probe_slots_of_one_key_leave_some_to_others(settings: Settings) -> None:
    own = Slots(settings.home_dir / "slots" / "probes" / "key-a", 1)
    with probe_slot(settings, "a"):
        assert own.take() is None
        with probe_slot(settings, "b") as descriptors:
            assert len(descriptors) == 2
