"""The plans of campaigns: a short one for CI, a long one, and one with the real models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.campaign import SETTINGS, Plan
from tests.faults.injector import FaultKind
from tests.support.assets import asset
from tests.support.chat.prompts import PROMPTS
from tests.support.event_checks import Expected
from tests.support.scripted import digits_chat, expected
from tests.support.video.clips import make_clip
from tests.support.video.pictures import numbered_picture
from webapi.client import Client
from worker.jobs.specs import ChatJob

__all__ = ["digits_chat", "failover", "long", "real", "shared", "shared_short", "short"]

Json = dict[str, Any]

TOKENS = 60
FRAMES = 38
#: The frames of a clip that several workers share: 32 segments, for each of which a worker needs 0.2 s.
LONG_FRAMES = 254


def short(home: Path) -> Plan:
    """Return a plan with almost every kind of fault, which takes less than a minute."""
    faults = {
        FaultKind.KILL_WORKER: 3,
        FaultKind.KILL_CLAIMING_WORKER: 1,
        FaultKind.FREEZE_WORKER: 1,
        FaultKind.DRAIN_WORKER: 1,
        FaultKind.SIGNAL_WORKER_TWICE: 1,
        FaultKind.KILL_API: 1,
        FaultKind.CUT_CONNECTIONS: 1,
        FaultKind.RESTART_REDIS: 1,
        FaultKind.STALL_REDIS: 1,
    }
    return _scripted_plan(home, 120, 4, faults, (0.5, 2.5))


def long(home: Path) -> Plan:
    """Return a plan with thousands of jobs and more than a hundred faults, which takes about ten minutes."""
    faults = {
        FaultKind.KILL_WORKER: 105,
        FaultKind.KILL_CLAIMING_WORKER: 15,
        FaultKind.FREEZE_WORKER: 8,
        FaultKind.DRAIN_WORKER: 6,
        FaultKind.SIGNAL_WORKER_TWICE: 4,
        FaultKind.KILL_API: 3,
        FaultKind.CUT_CONNECTIONS: 8,
        FaultKind.RESTART_REDIS: 6,
        FaultKind.KILL_REDIS: 6,
        FaultKind.STALL_REDIS: 6,
    }
    return _scripted_plan(home, 5_000, 100, faults, (0.5, 5.0))


def failover(home: Path) -> Plan:
    """Return a plan in which Redis fails over thirty times and workers are killed, in about ten minutes."""
    faults = {
        FaultKind.KILL_PRIMARY: 20,
        FaultKind.STOP_PRIMARY: 10,
        FaultKind.KILL_WORKER: 40,
        FaultKind.KILL_API: 2,
    }
    plan = _scripted_plan(home, 2_000, 40, faults, (0.5, 4.0))
    return replace(plan, settings=plan.settings.replace(redis_replicas=1), sentinels=True)


def shared(home: Path) -> Plan:
    """Return a plan in which idle workers help with long videos and are killed, in about four minutes."""
    faults = {
        FaultKind.KILL_WORKER: 30,
        FaultKind.FREEZE_WORKER: 4,
        FaultKind.DRAIN_WORKER: 4,
        FaultKind.SIGNAL_WORKER_TWICE: 2,
        FaultKind.CUT_CONNECTIONS: 3,
        FaultKind.RESTART_REDIS: 3,
        FaultKind.STALL_REDIS: 2,
    }
    return _shared_plan(home, 30, faults, (1.0, 5.0))


def shared_short(home: Path) -> Plan:
    """Return the same with a few faults."""
    faults = {FaultKind.KILL_WORKER: 4, FaultKind.FREEZE_WORKER: 1, FaultKind.RESTART_REDIS: 1}
    return _shared_plan(home, 4, faults, (1.0, 4.0))


def _shared_plan(
    home: Path, videos: int, faults: Mapping[FaultKind, int], pause_s: tuple[float, float]
) -> Plan:
    """Return a plan with four video workers and at most two videos, so that two workers can help."""
    plan = _scripted_plan(home, 0, videos, faults, pause_s)
    clip = make_clip(home / "clip.mp4", [numbered_picture(index) for index in range(LONG_FRAMES)])
    settings = plan.settings.replace(kinds="video")
    return replace(
        plan, settings=settings, clip=clip, submitters=0, followers=0, video_workers=4, max_videos=2
    )


def real(home: Path) -> Plan:
    """Return a plan with the real models, which takes some minutes.

    The same workers first answer each prompt without faults, as the reference.
    """
    models = SETTINGS.replace(home=home).models_dir
    home.mkdir(parents=True, exist_ok=True)
    models.symlink_to(asset("SmolLM2-135M-Instruct").parent)
    return Plan(
        settings=SETTINGS,
        app="worker.app",
        chats=50,
        videos=10,
        chat_body=lambda n: _greedy_chat(PROMPTS[n % len(PROMPTS)]),
        reference=_run_prompts,
        clip=asset("carphone_pristine.mp4"),
        submitters=0,
        followers=8,  # a worker's number of slots, so that one worker can take over all chats
        faults={
            FaultKind.KILL_WORKER: 22,
            FaultKind.FREEZE_WORKER: 2,
            FaultKind.DRAIN_WORKER: 2,
            FaultKind.CUT_CONNECTIONS: 2,
            FaultKind.RESTART_REDIS: 2,
        },
        pause_s=(6.0, 16.0),
    )


def _scripted_plan(
    home: Path, chats: int, videos: int, faults: Mapping[FaultKind, int], pause_s: tuple[float, float]
) -> Plan:
    home.mkdir(parents=True, exist_ok=True)
    model = home / "bars.safetensors"
    model.touch()
    names = {"chat_model": "words", "video_model": str(model), "batch_size": 4, "segment_batches": 2}
    clip = make_clip(home / "clip.mp4", [numbered_picture(index) for index in range(FRAMES)])
    return Plan(
        settings=SETTINGS.replace(**names),
        app="tests.support.workers.fake",
        chats=chats,
        videos=videos,
        chat_body=digits_chat,
        reference=lambda client: expected,
        clip=clip,
        submitters=2,
        followers=4,
        faults=faults,
        pause_s=pause_s,
    )


def _greedy_chat(content: str) -> Json:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": TOKENS}


def _run_prompts(client: Client) -> Callable[[ChatJob], Expected]:
    """Submit each prompt once, and return a function from a chat to the outcome of its prompt."""
    jobs = {content: client.submit_chat(_greedy_chat(content))["id"] for content in PROMPTS}
    ends = {content: list(client.events(job_id))[-1] for content, job_id in jobs.items()}
    found = {
        content: Expected(
            end["result"]["text"], end["usage"]["completion_tokens"], end["result"]["finish_reason"]
        )
        for content, end in ends.items()
    }
    return lambda job: found[str(job.messages[0].content)]
