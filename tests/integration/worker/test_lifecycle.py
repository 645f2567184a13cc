"""The end of a worker whose device or engine hangs: the worker ends, and its jobs are requeued."""

import signal
import subprocess
import sys

import pytest

from tests.support.job_ids import A, B
from tests.support.stack import eventually
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import TIMEOUT_S
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.media.files import JobFiles
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, VideoJob, validate

#: The event types of a job whose worker has handed it back.
HANDED_BACK = ["queued", "started", "requeued"]


def command(kind: str) -> list[str]:
    app = f"tests.support.workers.hanging_{kind}"
    return [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "solo"]


def test_lifecycle_ends_worker_whose_device_hangs(settings: Settings, brokered: Ledger) -> None:
    weights, log = settings.home_dir / "bars", settings.home_dir / "log"
    weights.touch()
    env = child_env(settings.replace(worker="video", devices="cpu", video_model=str(weights), drain_s=0))
    files = JobFiles.at(settings.media_dir, A)
    files.folder.mkdir(parents=True)
    write_clip(files.clip)
    brokered.submit(A, "video.bars", validate(VideoJob, {"effect": "matte"}))
    assert Queues(brokered.store).send_again(A)
    with log.open("wb") as output, subprocess.Popen(command("video"), env=env, stderr=output) as process:
        try:
            eventually((settings.home_dir / "hangs").exists, "a device that hangs")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 1
        finally:
            process.kill()
    assert "cpu hangs: the worker ends without waiting for it" in log.read_text()
    assert [event.type for event in brokered.events(A)] == HANDED_BACK
    assert brokered.get(A).state == "queued"


@pytest.mark.long
def test_lifecycle_ends_worker_whose_engine_hangs(settings: Settings, brokered: Ledger) -> None:
    env = child_env(settings.replace(worker="chat", devices="cpu", chat_model="scripted"))
    chats, log = (A, B), settings.home_dir / "log"
    for job_id in chats:
        spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
        brokered.submit(job_id, "chat.scripted", spec)
        assert Queues(brokered.store).send_again(job_id)
    with log.open("wb") as output, subprocess.Popen(command("chat"), env=env, stderr=output) as process:
        try:
            assert process.wait(TIMEOUT_S) == 1
        finally:
            process.kill()
    assert log.read_text().count("the engine is broken, the worker ends") == 1
    for job_id in chats:
        assert [event.type for event in brokered.events(job_id)] == HANDED_BACK
        assert brokered.get(job_id).state == "queued"
