"""Events as a newer version of Stoker might write them."""

from dataclasses import dataclass
from typing import ClassVar

from worker.jobs.events import Batch, Event, Failed, Succeeded, Token

__all__ = ["NewerBatch", "NewerFailed", "NewerSucceeded", "NewerToken", "Remark"]


@dataclass(frozen=True, slots=True)
class Remark(Event):
    """An event of an unknown type, with fields that other events have too."""

    type: ClassVar[str] = "remark"
    text: str = "Hm."
    index: int = 0


@dataclass(frozen=True, slots=True)
class NewerToken(Token):
    """A token event with an unknown field."""

    weight: int = 7


@dataclass(frozen=True, slots=True)
class NewerBatch(Batch):
    """A batch event with an unknown field."""

    gpu: str = "H200"


@dataclass(frozen=True, slots=True)
class NewerSucceeded(Succeeded):
    """A terminal event with an unknown field."""

    cost: float = 0.5


@dataclass(frozen=True, slots=True)
class NewerFailed(Failed):
    """A terminal event with an unknown field."""

    help_url: str = "https://example.org"
