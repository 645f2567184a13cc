"""The last release is replaced by this one under load, and this one by the last. No job is harmed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.scripted import digits_chat, expected
from tests.support.stack import free_port
from tests.support.video.clips import make_clip
from tests.support.video.pictures import numbered_picture
from tests.upgrade.clients import Clients
from tests.upgrade.mixed_stack import MixedStack, Part
from tests.upgrade.releases import last_release, this_release
from webapi.client import Client
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import JobFiles
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS: Sequence[Part] = ("chat", "video")
API: Sequence[Part] = ("web",)
#: Jobs that end at least in each stage.
STAGE = {"chat": 8, "video": 1}
#: Frames of a video: many batches, because a worker may notice a second late that it must end.
FRAMES = 78


@pytest.fixture
def stack(settings: Settings, tmp_path: Path) -> Iterator[MixedStack]:
    """A stack of the last release. Its workers have no time to drain, so they hand their jobs over."""
    port, model = free_port(), tmp_path / "bars.safetensors"
    model.touch()
    address = {"port": port, "url": f"http://127.0.0.1:{port}"}
    models = {"chat_model": "words", "video_model": str(model), "batch_size": 4, "segment_batches": 2}
    times = {"lease_ttl_s": 2, "drain_s": 0.1, "max_attempts": 50}
    last = last_release(tmp_path / "last_release")
    with MixedStack(settings.replace(**address, **models, **times), last) as stack:
        yield stack


@pytest.mark.long
@pytest.mark.parametrize(
    "order",
    [
        pytest.param((WORKERS, API), id="workers_first"),
        pytest.param((API, WORKERS), id="api_first"),
    ],
)
def test_upgrade_and_downgrade_under_load(
    stack: MixedStack, order: Sequence[Sequence[Part]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, this = stack.releases["web"], this_release()
    clip = make_clip(tmp_path / "clip.mp4", [numbered_picture(index) for index in range(FRAMES)])

    def body(kind: str, number: int) -> dict[str, Any]:
        return {"json": digits_chat(number)} if kind == "chat" else {"files": {"file": clip.read_bytes()}}

    with Client(stack.settings.url) as client:
        reference = str(client.submit_video(clip)["id"])
        assert list(client.events(reference))[-1]["type"] == "succeeded"
    clients, stages = Clients(stack.settings.url, body), list[str]()
    clients.start()
    for parts, release in [((), last), *((parts, to) for to in (this, last) for parts in order)]:
        stack.replace(parts, release)
        ended = clients.wait_for(STAGE)
        web, workers = stack.releases["web"].name, stack.releases["chat"].name
        stages.append(f"| {web} | {workers} | {ended['chat']} | {ended['video']} |")
    clients.finish()
    audit = _audit(stack, reference, clients)
    ends, handovers = _served(audit, stack)
    with capsys.disabled():
        _print_table(stages, clients, audit, ends + handovers)
    assert audit.flaws == {}
    assert set(audit.job_ids()) == {reference, *clients.seen}
    assert audit.counts["succeeded"] == len(clients.seen) + 1
    assert ends.keys() == {f"{kind}s ended by {release.name}" for kind in STAGE for release in (last, this)}
    for old, new in ((last, this), (this, last)):
        assert handovers[f"jobs handed from {old.name} to {new.name}"]
    assert clients.resumed


def _audit(stack: MixedStack, reference: str, clients: Clients) -> Audit:
    """Check every job: one end, no gap, no repeated event, and the outcome of an undisturbed run."""
    ledger = Ledger(RedisStore(stack.settings))
    cleanup = FileCleanup(ledger, open_media_store(stack.settings))
    cleanup.remove_inputs(0)
    cleanup.drop_unneeded(0)
    audit = Audit(ledger, expected, JobFiles.at(stack.settings.media_dir, reference).result)
    audit.check_jobs([reference], clients)
    ledger.store.close()
    return audit


def _served(audit: Audit, stack: MixedStack) -> tuple[Counter[str], Counter[str]]:
    """Count the jobs that each release has ended, and those that it has handed to the other."""
    ends, handovers = Counter[str](), Counter[str]()
    for log in audit.logs.values():
        workers = [event["worker"] for event in log if event["type"] == "started"]
        names = [stack.release_of[worker].name for worker in workers]
        kind = workers[-1].partition("-")[0]
        ends[f"{kind}s ended by {names[-1]}"] += 1
        for old, new in pairwise(names):
            if old != new:
                handovers[f"jobs handed from {old} to {new}"] += 1
    return ends, handovers


def _print_table(stages: Sequence[str], clients: Clients, audit: Audit, served: Counter[str]) -> None:
    flaws = audit.flaw_counts()
    rows = {
        **dict(sorted(served.items())),
        "streams resumed": clients.resumed,
        "submits repeated": clients.repeated,
        "jobs": len(audit.logs),
        "jobs lost": flaws["lost"],
        "jobs with two ends": flaws["terminal"],
        "logs with a gap or a doubled number": flaws["gap"],
        "streams that differ from the log": flaws["follower"],
        "wrong results": flaws["result"],
    }
    print("\n| API | workers | chats ended | videos ended |\n|---|---|---|---|", *stages, sep="\n")  # noqa: T201
    print("\n|  |  |\n|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), sep="\n")  # noqa: T201
