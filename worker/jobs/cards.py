"""The cards of workers and models: what workers publish of themselves and of the models that they serve."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from worker.jobs.chat.sampling import COMMON_PARAMETERS
from worker.jobs.options import MATTING_OPTIONS, Option, options_of
from worker.jobs.readings import EngineStats, GpuMemory
from worker.jobs.specs import VideoJob
from worker.jobs.stored import from_values

__all__ = ["ModelCard", "WorkerCard", "WorkerState"]

WorkerState = Literal["warming", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """The description that a worker publishes with each renewal of its lease. `memory` is in bytes."""

    name: str
    kind: str
    host: str
    pid: int
    device: str
    model: str
    engine: str
    queue: str
    slots: int
    running: int
    memory: dict[str, Any] = field(default_factory=dict)
    state: WorkerState = "warming"
    #: Seconds that loading the model and the warm-up have taken; None before they are done.
    warmup_s: float | None = None
    #: The memory of each GPU; none on a CPU.
    gpus: tuple[GpuMemory, ...] = ()
    #: The use of the engine's cache; None if it has none, or if the worker is too old to say.
    engine_stats: EngineStats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "gpus", tuple(_reading(GpuMemory, gpu) for gpu in self.gpus))
        object.__setattr__(self, "engine_stats", _reading(EngineStats, self.engine_stats))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that a worker has served. `digest` identifies the version of its prompt template."""

    name: str
    kind: str
    queue: str
    context_length: int | None = None
    digest: str | None = None
    #: The names of what its worker supports of a chat (`ChatJob.asked`): sampling parameters, options of the
    #: prompt, fields of messages. None if the worker is too old to say.
    sampling: tuple[str, ...] | None = None
    #: The JSON schema of its options; None for a kind without options, or if the worker is too old to say.
    parameters: Mapping[str, Any] | None = field(default=None, hash=False)
    #: The names of its LoRA adapters.
    adapters: tuple[str, ...] = ()
    #: The model whose LoRA adapter this is; None for the model itself. It is not stored.
    parent: str | None = None

    def __post_init__(self) -> None:
        if self.sampling is not None:  # a list, if the card comes from JSON
            object.__setattr__(self, "sampling", tuple(self.sampling))
        object.__setattr__(self, "adapters", tuple(self.adapters))

    @property
    def with_adapters(self) -> "Sequence[ModelCard]":
        """The model and its adapters, each as a model of its own."""
        adapters = (replace(self, name=name, parent=self.name, adapters=()) for name in self.adapters)
        return [self, *adapters]

    @property
    def supports(self) -> Collection[str]:
        """The names of what its worker supports of a chat."""
        return COMMON_PARAMETERS if self.sampling is None else self.sampling

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of its options. A video worker that is too old to say has the matting model."""
        is_old = self.parameters is None and self.kind == VideoJob.kind
        return MATTING_OPTIONS if is_old else self.parameters

    @property
    def options(self) -> Mapping[str, Option]:
        """Its options, by name."""
        return options_of(self.schema or {})


def _reading(cls: type[EngineStats] | type[GpuMemory], value: object) -> object:
    """Return the reading, which is a dict if the card comes from JSON."""
    return from_values(cls, value) if isinstance(value, dict) else value
