"""The plans: a short campaign for CI, a long one, and one with the real models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.campaign import SETTINGS, Plan
from tests.support.assets import asset
from tests.support.clips import make_clip
from tests.support.event_checks import Expected
from tests.support.pictures import numbered
from tests.support.prompts import PROMPTS
from tests.support.scripted import STOP, expected
from webapi.client import Client
from worker.jobs.specs import ChatJob

__all__ = ["digits", "long", "real", "short"]

Json = dict[str, Any]

TOKENS = 60
FRAMES = 38


def short(home: Path) -> Plan:
    """Some of everything in less than a minute."""
    workers = {"kill worker": 3, "freeze worker": 1, "drain worker": 1, "hurry worker": 1, "kill api": 1}
    redis = {"cut connections": 1, "restart redis": 1, "stall redis": 1}
    return _scripted(home, 160, 4, workers | redis, (0.5, 3.0))


def long(home: Path) -> Plan:
    """Thousands of jobs, and faults by the hundred, in about ten minutes."""
    workers = {"kill worker": 105, "freeze worker": 8, "drain worker": 6, "hurry worker": 4, "kill api": 3}
    redis = {"cut connections": 8, "restart redis": 6, "kill redis": 6, "stall redis": 6}
    return _scripted(home, 5_000, 100, workers | redis, (0.5, 5.0))


def real(home: Path) -> Plan:
    """The real models, for some minutes; the undisturbed texts are made first, by the same workers."""
    models = SETTINGS.replace(home=home).models_dir
    home.mkdir(parents=True, exist_ok=True)
    models.symlink_to(asset("SmolLM2-135M-Instruct").parent)
    workers = {"kill worker": 22, "freeze worker": 2, "drain worker": 2}
    return Plan(
        settings=SETTINGS,
        app="worker.app",
        chats=50,
        videos=10,
        chat=lambda n: _greedy(PROMPTS[n % len(PROMPTS)]),
        undisturbed=_tried,
        clip=asset("carphone_pristine.mp4"),
        submitters=0,
        followers=8,  # as many as one worker has slots: the other one can take them all over
        deck=workers | {"cut connections": 2, "restart redis": 2},
        pause_s=(6.0, 16.0),
    )


def _scripted(
    home: Path, chats: int, videos: int, deck: dict[str, int], pause_s: tuple[float, float]
) -> Plan:
    home.mkdir(parents=True, exist_ok=True)
    model = home / "bars.safetensors"
    model.touch()
    names = {"chat_model": "words", "video_model": model, "batch_size": 4, "segment_batches": 2}
    clip = make_clip(home / "clip.mp4", [numbered(index) for index in range(FRAMES)])
    return Plan(
        settings=SETTINGS.replace(**names),
        app="tests.support.workers.fake",
        chats=chats,
        videos=videos,
        chat=digits,
        undisturbed=lambda client: expected,
        clip=clip,
        submitters=2,
        followers=4,
        deck=deck,
        pause_s=pause_s,
    )


def digits(number: int) -> Json:
    """Every third has a stop string, every fourth is cut off."""
    stop, tokens = STOP if number % 3 == 0 else [], 20 if number % 4 == 0 else 100
    return {"messages": [{"role": "user", "content": str(number)}], "stop": stop, "max_tokens": tokens}


def _greedy(content: str) -> Json:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": TOKENS}


def _tried(client: Client) -> Callable[[ChatJob], Expected]:
    """Ask each prompt once."""
    jobs = {content: client.submit_chat(_greedy(content))["id"] for content in PROMPTS}
    ends = {content: list(client.events(job_id))[-1] for content, job_id in jobs.items()}
    found = {
        content: Expected(
            end["result"]["text"], end["usage"]["completion_tokens"], end["result"]["finish_reason"]
        )
        for content, end in ends.items()
    }
    return lambda job: found[job.messages[0].content]
