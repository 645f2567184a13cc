"""A device that hangs keeps neither its worker nor its job."""

import signal
import subprocess
import sys

from tests.integration.stack import eventually
from tests.integration.webstack import TIMEOUT_S, write_clip
from worker.jobs import broker
from worker.jobs.ledger import Ledger
from worker.jobs.media import JobFiles
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import validate

COMMAND = [sys.executable, "-m", "celery", "-A", "tests.integration.hanging_worker", "worker", "-P", "solo"]
QUEUE = "video.bars"


def test_a_worker_that_is_told_to_end_does_and_its_job_waits_for_another(
    settings: Settings, brokered: Ledger
) -> None:
    weights, log = settings.root / "bars", settings.root / "log"
    weights.touch()
    env = child_env(settings.updated(worker="video", devices="cpu", video_model=weights, drain_s=0))
    files = JobFiles.of(settings.media_dir, "a")
    files.folder.mkdir(parents=True)
    write_clip(files.clip)
    brokered.submit("a", QUEUE, validate("video", {"effect": "matte"}))
    broker.send_hint("video", "a", QUEUE)
    with log.open("wb") as output, subprocess.Popen(COMMAND, env=env, stderr=output) as process:
        try:
            eventually((settings.root / "hangs").exists, "a device that hangs", TIMEOUT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 1
        finally:
            process.kill()
    assert "cpu hangs and is not waited for" in log.read_text()
    assert [event.type for event in brokered.events("a")] == ["queued", "started", "requeued"]
    assert brokered.get("a").state == "queued"
