"""The client of the HTTP API that programs, the command line and the demo use."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

import httpx
from tqdm.utils import CallbackIOWrapper

from webapi.client import event_source
from webapi.client.connection import connect, job_path, retry
from webapi.client.errors import ApiError, Json, check, json_object, unavailable
from webapi.client.job_event import JobEvent
from worker.jobs.events import Canceled, Failed

__all__ = ["Client"]


class Client:
    """A client of the API at `url`. As a context manager it closes its connections at the end.

    A request times out after `timeout_s` seconds without data. `retry_waits_s` are the waits before each new
    attempt at a broken event stream, a cancel or a download. The methods return the API's JSON documents.

    All methods raise `ApiError` if the API cannot be reached or refuses the request. Requests to a loopback
    address never go through a proxy.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry_waits_s: Sequence[float] = event_source.RETRY_WAITS_S,
    ) -> None:
        self.url, self.timeout_s, self.retry_waits_s = url.rstrip("/"), timeout_s, retry_waits_s
        self.http = connect(self.url, api_key, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def submit_chat(
        self, body: Mapping[str, Any], *, idempotency_key: str | None = None, wait: int = 0
    ) -> Json:
        """Submit a chat and return its job.

        `body` has the fields of `POST /v1/jobs/chat`. With `wait`, the API answers when the job has ended, at
        the latest after `wait` seconds. Requests with the same `idempotency_key` and body create one job.
        """
        return self._submit("/v1/jobs/chat", idempotency_key, wait, json=body)

    def submit_video(
        self,
        clip: Path,
        background: str | None = None,
        *,
        model: str | None = None,
        options: Mapping[str, str | float | bool | Path | None] | None = None,
        idempotency_key: str | None = None,
        wait: int = 0,
        on_upload: Callable[[int], object] | None = None,
        **form: str | float | bool | None,
    ) -> Json:
        """Upload a clip and return the video job that it makes.

        `options` are those of the model. A `Path` among them is a file that is uploaded. `background` is an
        option, too: a colour (`#rrggbb`) or the path of an image file. `form` holds the other fields of
        `POST /v1/jobs/video`. `idempotency_key` and `wait` work as for a chat. `on_upload` is called with
        the number of bytes of each part of the clip that is sent.
        """
        behind = Path(background) if background and not background.startswith("#") else background
        fields = {**form, "model": model, "background": behind, **(options or {})}
        paths = {"file": clip, **{name: each for name, each in fields.items() if isinstance(each, Path)}}
        with ExitStack() as stack:
            # The names are ours: that of the file on disk may not be text, and the API ignores it.
            files: dict[str, tuple[str, Any]]
            files = {name: (name, stack.enter_context(path.open("rb"))) for name, path in paths.items()}
            if on_upload:
                files["file"] = ("file", CallbackIOWrapper(on_upload, files["file"][1], "read"))
            data = {name: each for name, each in fields.items() if each is not None and name not in paths}
            return self._submit("/v1/jobs/video", idempotency_key, wait, files=files, data=data)

    def _submit(self, path: str, idempotency_key: str | None, wait: int, **body: Any) -> Json:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        headers |= {"Prefer": f"wait={wait}"} if wait else {}
        return self._json("POST", path, headers=headers, timeout=self.timeout_s + wait, **body)

    def job(self, job_id: str) -> Json:
        """Return the job's current document."""
        return self._json("GET", job_path(job_id))

    def jobs(self, state: str | None = None, limit: int = 100, kind: str | None = None) -> list[Json]:
        """Return up to `limit` jobs, at most 100, newest first, optionally of one state or kind."""
        given = {"state": state, "kind": kind, "limit": limit}
        params = {name: value for name, value in given.items() if value is not None}
        return list(self._json("GET", "/v1/jobs", params=params)["jobs"])

    def retry(self, job_id: str, *, idempotency_key: str | None = None, wait: int = 0) -> Json:
        """Submit a failed or canceled job again, and return the new job, whose `retry_of` names the old one.

        `idempotency_key` and `wait` work as for a chat.
        """
        return self._submit(job_path(job_id, "retry"), idempotency_key, wait)

    def queues(self) -> list[Json]:
        """Return all queues, with their numbers of waiting and running jobs."""
        return list(self._json("GET", "/v1/queues")["queues"])

    def pause_queue(self, name: str) -> Json:
        """Pause the queue of this name, and return it. Needs the key of an administrator."""
        return self._json("POST", f"/v1/queues/{quote(name)}/pause")

    def resume_queue(self, name: str) -> Json:
        """Resume the queue of this name, and return it. Needs the key of an administrator."""
        return self._json("POST", f"/v1/queues/{quote(name)}/resume")

    def drain_worker(self, name: str) -> Json:
        """Let the worker of this name drain and end, and return it. Needs the key of an administrator."""
        return self._json("POST", f"/v1/workers/{quote(name, safe='')}/drain")

    def workers(self) -> list[Json]:
        """Return all live workers."""
        return list(self._json("GET", "/v1/workers")["workers"])

    def model(self, name: str) -> Json:
        """Return a model that is served. `parameters` is the JSON schema of its options."""
        return self._json("GET", f"/v1/models/{quote(name)}")

    def memory(self, job_id: str) -> Json:
        """Return the time and memory figures of a video job's batches."""
        return self._json("GET", job_path(job_id, "memory"))

    def cancel(self, job_id: str) -> Json:
        """Cancel the job and return it.

        A waiting job ends at once. A running one ends at its next step, so it may still be `running` here.
        """
        return retry(lambda: self._json("POST", job_path(job_id, "cancel")), self.retry_waits_s)

    def alive(self, path: str = "/livez") -> bool:
        """Return True if the API answers a request of `path` with success."""
        try:
            return self.http.get(path).is_success
        except httpx.RequestError:
            return False

    def ready(self) -> bool:
        """Return True if the API, Redis and a worker of each kind are ready."""
        return self.alive("/readyz")

    def download(self, job_id: str, target: Path) -> None:
        """Save the job's result as the file `target`.

        The data goes to a temporary file beside it first, so `target` is complete or does not exist. A
        download that breaks off is continued.
        """
        part = target.with_name(f".{job_id}.part-{os.getpid()}")
        try:
            with part.open("wb") as file:
                retry(lambda: self._fetch(job_path(job_id, "result"), file), self.retry_waits_s)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, path: str, file: IO[bytes]) -> None:
        """Append the bytes at the path that the file does not have yet."""
        headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
        try:
            with self.http.stream("GET", path, headers=headers) as response:
                check(response)
                if response.status_code != httpx.codes.PARTIAL_CONTENT:
                    file.seek(0)
                    file.truncate()
                for chunk in response.iter_bytes():
                    file.write(chunk)
        except httpx.RequestError as error:
            raise unavailable(self.url, error) from error

    def events(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """Yield the job's events after number `after`, up to the terminal event.

        A broken stream is resumed after the last event received. Raises `ApiError` if that fails repeatedly.
        """
        return event_source.events(self.http, job_id, after, self.retry_waits_s)

    def follow(self, job_id: str) -> Iterator[JobEvent]:
        """Yield the events of a job until it succeeds. Raises `ApiError` if it fails or is canceled."""
        for event in self.events(job_id):
            match event.body:
                case Failed(code=code, message=message):
                    raise ApiError(f"the job failed: {code}: {message}")
                case Canceled():
                    raise ApiError("the job was canceled")
            yield event

    def _json(self, method: str, path: str, **kwargs: Any) -> Json:
        try:
            response = self.http.request(method, path, **kwargs)
        except httpx.RequestError as error:
            raise unavailable(self.url, error) from error
        check(response)
        return json_object(response.content)
