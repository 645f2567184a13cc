"""The videos of the scenario: one without faults, and one whose worker is killed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.compose.project import Project
from tests.support.assets import asset
from tests.support.event_checks import Flaw, check_log, check_video
from tests.support.video.pictures import read_pictures, same_pictures
from webapi.client import Client

__all__ = ["Videos"]

Json = dict[str, Any]

CLIP, BACKGROUND = "carphone_pristine.mp4", "#00b140"


class Videos:
    """Video jobs of the same clip, whose results go to `folder`."""

    def __init__(self, project: Project, client: Client, folder: Path) -> None:
        #: The events of each job.
        self.logs: list[Sequence[Json]] = []
        self._project, self._client, self._folder = project, client, folder

    def run_reference(self) -> int:
        """Run a job without faults, and return its number of frames."""
        job_id = self._submit()
        self.logs.append(list(self._client.events(job_id)))
        self._reference = read_pictures(self._download(job_id, "reference.mp4"))
        return len(self._reference)

    def run_with_kill(self) -> Iterator[str]:
        """Run a job and kill the process of its worker after four batches; yield a line per step.

        The container ends with its process, Docker starts it again, and the result must be the same.
        """
        [card] = [card for card in self._client.workers() if card["kind"] == "video"]
        [container] = self._project.containers("video-worker")
        job_id = self._submit()
        events, seen = self._client.events(job_id), []
        for event in events:
            seen.append(event)
            if event["type"] == "batch" and event["index"] == 3:
                break
        kill = f"import os, signal; os.kill({card['pid']}, signal.SIGKILL)"
        self._project.exec("video-worker", "python3", "-c", kill)
        yield "the process of the video worker was killed after 4 of 8 batches"
        seen += events
        self.logs.append(seen)
        assert [event["type"] for event in seen].count("requeued") == 1, seen
        assert same_pictures(read_pictures(self._download(job_id, "resumed.mp4")), self._reference)
        restarts = self._project.inspect(container)["RestartCount"]
        assert restarts == 1, restarts
        yield "its container restarted and the video continued: the same frames"

    def find_flaws(self) -> Iterator[Flaw]:
        """Check the log of every job."""
        for log in self.logs:
            yield from check_log(log)
            yield from check_video(log, len(self._reference))

    def _submit(self) -> str:
        return str(self._client.submit_video(asset(CLIP), BACKGROUND)["id"])

    def _download(self, job_id: str, name: str) -> Path:
        result = self._folder / name
        self._client.download(job_id, result)
        return result
