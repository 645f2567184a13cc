"""A small client of the HTTP API: for programs, the command line and the demo."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from webapi.client import event_source
from webapi.client.errors import ApiError, Json, check

__all__ = ["Client"]


class Client:
    """The API at `url`, and a context manager that closes its connections. Methods raise `ApiError`."""

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def submit_chat(
        self, body: Mapping[str, Any], *, idempotency_key: str | None = None, wait: int = 0
    ) -> Json:
        """Submit a chat; the job, ended if that takes no longer than `wait` seconds."""
        return self._submit("/v1/jobs/chat", idempotency_key, wait, json=body)

    def submit_video(
        self,
        clip: Path,
        background: str | None = None,
        *,
        idempotency_key: str | None = None,
        wait: int = 0,
        **form: str | None,
    ) -> Json:
        """Upload a clip; `background` is a colour or the path of an image. The job, as for a chat."""
        with ExitStack() as stack:
            files = {"file": stack.enter_context(clip.open("rb"))}
            if background and not background.startswith("#"):
                files["background"] = stack.enter_context(Path(background).open("rb"))
            else:
                form["background"] = background
            data = {name: value for name, value in form.items() if value is not None}
            return self._submit("/v1/jobs/video", idempotency_key, wait, files=files, data=data)

    def _submit(self, path: str, idempotency_key: str | None, wait: int, **body: Any) -> Json:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        headers |= {"Prefer": f"wait={wait}"} if wait else {}
        return self._json("POST", path, headers=headers, timeout=self.timeout_s + wait, **body)

    def job(self, job_id: str) -> Json:
        """The job as it stands."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, state: str, limit: int = 100) -> list[Json]:
        """Jobs in this state, newest first."""
        return list(self._json("GET", "/v1/jobs", params={"state": state, "limit": limit})["jobs"])

    def queues(self) -> list[Json]:
        """The queues."""
        return list(self._json("GET", "/v1/queues")["queues"])

    def workers(self) -> list[Json]:
        """The live workers."""
        return list(self._json("GET", "/v1/workers")["workers"])

    def memory(self, job_id: str) -> Json:
        """The memory figures of the job's batches."""
        return self._json("GET", f"/v1/jobs/{job_id}/memory")

    def cancel(self, job_id: str) -> Json:
        """Ask for the job's end."""
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def alive(self, path: str = "/livez") -> bool:
        """Whether the API answers."""
        try:
            return self.http.get(path).is_success
        except httpx.TransportError:
            return False

    def ready(self) -> bool:
        """Whether the API, Redis and a worker of each kind are ready."""
        return self.alive("/readyz")

    def download(self, job_id: str, target: Path) -> None:
        """Save the result; `target` appears whole or not at all."""
        part = target.with_name(f".{target.name}.part-{os.getpid()}")
        try:
            with part.open("wb") as file, self.http.stream("GET", f"/v1/jobs/{job_id}/result") as response:
                check(response)
                for chunk in response.iter_bytes():
                    file.write(chunk)
            part.replace(target)
        except httpx.TransportError as error:
            raise ApiError(f"the download broke off: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def events(self, job_id: str, after: int = 0) -> Iterator[Json]:
        """The job's events to its end, from the one after `after`; a broken stream is resumed."""
        return event_source.events(self.http, job_id, after)

    def follow(self, job_id: str) -> Iterator[Json]:
        """The events of a job that succeeds; raises `ApiError` for any other end."""
        for event in self.events(job_id):
            if event["type"] == "failed":
                raise ApiError(f"the job failed: {event['code']}: {event['message']}")
            if event["type"] == "canceled":
                raise ApiError("the job was canceled")
            yield event

    def _json(self, method: str, path: str, **kwargs: Any) -> Json:
        try:
            response = self.http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ApiError(f"no answer from the API at {self.url}: {error}") from error
        check(response)
        return dict(response.json())
