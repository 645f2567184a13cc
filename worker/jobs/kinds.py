"""The table of the kinds of jobs, and the names of their Celery tasks and queues."""

from dataclasses import dataclass
from typing import Literal

from worker.jobs.errors import ConfigurationError
from worker.jobs.specs import ChatJob, JobSpec, VideoJob

__all__ = ["KINDS", "Kind", "find_kind", "has_files", "kind_of", "model_of", "queue_of", "task_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job, as API and workers see it. `webapi/kinds/table.py` has what only the API needs.

    - `spec`: the class of its validated requests. It also has the name of the kind.
    - `unit`: the unit of its progress.
    - `model_setting`: the setting that names the default model.
    - `models`: what this setting can be.
    - `runner`: the function that makes its runner, as `module:function` (see `worker/runners.py`). Only a
      worker of the kind imports the module.
    - `result`: "json" if the job's record holds the whole result, "file" if the result is a file.
    """

    spec: type[JobSpec]
    unit: str
    model_setting: str
    models: str
    runner: str
    result: Literal["json", "file"]

    @property
    def name(self) -> str:
        """The name of the kind, which is also the first part of its queues' names."""
        return self.spec.kind


#: All kinds by name, whether this installation serves them or not (see the setting `kinds`).
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            ChatJob,
            "tokens",
            "chat_model",
            "Name of a default model, or a path.",
            "worker.chat.runner_factory:make_runner",
            "json",
        ),
        Kind(
            VideoJob,
            "frames",
            "video_model",
            "Name of a model of Stoker, package.module:Class, an entry point, FILE.pt2, or spandrel:FILE.",
            "worker.video.runner_factory:make_runner",
            "file",
        ),
    )
}


def find_kind(name: str) -> Kind:
    """Return the kind of this name. Raises `ConfigurationError` if there is none."""
    if kind := KINDS.get(name):
        return kind
    raise ConfigurationError(f"there is no kind of job {name!r}, only {', '.join(KINDS)}")


def has_files(name: str | None) -> bool:
    """Return whether jobs of this kind can have files in the media store.

    They can if the kind is unknown: another release of Stoker may know it.
    """
    kind = KINDS.get(name or "")
    return kind is None or kind.result == "file"


def task_of(kind: str) -> str:
    """Return the name of the kind's Celery task. The API sends messages by this name, without the task."""
    return f"stoker.{kind}"


def queue_of(kind: str, model: str) -> str:
    """Return the name of the queue for jobs of this kind and model."""
    return f"{kind}.{model}"


def kind_of(queue: str) -> str:
    """Return the name of the kind of the jobs in this queue."""
    return queue.partition(".")[0]


def model_of(queue: str) -> str:
    """Return the model of the jobs in this queue."""
    return queue.partition(".")[2]
