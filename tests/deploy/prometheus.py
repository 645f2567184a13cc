"""A real Prometheus with the configuration and the alerts of `deploy/prometheus`."""

import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from tests.support.deploy import ALERTS, DEPLOY
from tests.support.stack import eventually, free_port

__all__ = ["PROMETHEUS", "SCRAPE_S", "Prometheus", "Series", "running_prometheus"]

PROMETHEUS = shutil.which("prometheus")
#: Seconds between two scrapes.
SCRAPE_S = 1


class Series(NamedTuple):
    """The values of one series of an answer, by their times in seconds, without those that are no number."""

    labels: dict[str, str]
    values: dict[float, float]


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self.started = time.time()

    def get(self, path: str, **params: str | float) -> Any:
        """Return the data of an answer. Raises `AssertionError` with Prometheus' error."""
        answer = self._http.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def scrapes(self) -> bool:
        """Return whether the last scrape of Stoker has succeeded."""
        try:
            if self._http.get("/-/ready").status_code != 200:
                return False
        except httpx.TransportError:
            return False
        found = self.get("query", query='up{job="stoker"}')["result"]
        return bool(found) and found[0]["value"][1] == "1"

    def series(self, expression: str, step_s: float = SCRAPE_S) -> list[Series]:
        """Return the answer to an expression, from the start of Prometheus until now."""
        period = {"start": self.started, "end": time.time(), "step": step_s}
        found = self.get("query_range", query=expression, **period)["result"]
        return [
            Series(
                each["metric"],
                {float(at): float(value) for at, value in each["values"] if math.isfinite(float(value))},
            )
            for each in found
        ]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


@contextmanager
def running_prometheus(folder: Path, api: str, key: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes the API at `api` (`host:port`) with this key, and wait for a scrape.

    The configuration is that of `deploy/prometheus`, but for the address, the file of the key, and the pause
    between scrapes.
    """
    folder.mkdir()
    (folder / "key").write_text(key)
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    [scrape] = config["scrape_configs"]
    scrape["scrape_interval"] = f"{SCRAPE_S}s"
    scrape["authorization"] = {"credentials_file": str(folder / "key")}
    scrape["static_configs"] = [{"targets": [api]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ALERTS, folder)
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log, cwd=folder
        )
    prometheus = Prometheus(f"http://{address}")
    try:
        eventually(prometheus.scrapes, "a scrape")
        yield prometheus
    finally:
        prometheus.close()
        process.kill()
        process.wait()
