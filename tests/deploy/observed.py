"""A stack with real models that a Prometheus watches: chats and videos run, and a worker is killed."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.deploy.prometheus import Prometheus, running_prometheus
from tests.support.assets import asset
from tests.support.cluster import Cluster
from webapi.client import Client
from webapi.keys.keys import Keys
from worker.jobs.settings import Settings

__all__ = ["Observed", "observed_stack"]

CLIP = "carphone_pristine.mp4"
MODELS = ("SmolLM2-135M-Instruct.Q4_1.gguf", "selfie_segmentation.tflite")
QUESTION = {"messages": [{"role": "user", "content": "Tell me about lighthouses."}]}


class Observed:
    """The stack and the Prometheus, and what their user does."""

    def __init__(self, cluster: Cluster, prometheus: Prometheus, key: str) -> None:
        self.cluster, self.prometheus, self._key = cluster, prometheus, key
        self.done = threading.Event()

    def client(self) -> Client:
        """Return a client with a key."""
        return Client(self.cluster.settings.url, self._key)

    def chat(self, tokens: int) -> str:
        """Run a chat of so many tokens, and return the type of its last event."""
        with self.client() as client:
            job = client.submit_chat({**QUESTION, "min_tokens": tokens, "max_tokens": tokens})
            return str(list(client.events(job["id"]))[-1]["type"])

    def video(self) -> str:
        """Run a video, and return the type of its last event."""
        with self.client() as client:
            job = client.submit_video(asset(CLIP), "#00b140")
            return str(list(client.events(job["id"]))[-1]["type"])

    def kill_busy_worker(self) -> None:
        """Kill a chat worker in the middle of a chat, and wait for the end of the chat."""
        with self.client() as client:
            job_id = client.submit_chat({**QUESTION, "min_tokens": 100, "max_tokens": 100})["id"]
            stream = client.events(job_id)
            next(event for event in stream if event["type"] == "token")
            name = client.job(job_id)["worker"]
            [pid] = [worker["pid"] for worker in client.workers() if worker["name"] == name]
            [worker] = [each for each in self.cluster.workers.values() if each.pid == pid]
            worker.signal(signal.SIGKILL)
            assert list(stream)[-1]["type"] == "succeeded"

    def load(self, chats: int) -> None:
        """Run chats and videos, at most so many chats at once, until `done` is set."""

        def again(number: int) -> None:
            while not self.done.is_set():
                if number == chats:
                    self.video()
                else:
                    self.chat(20 + 20 * number)

        with ThreadPoolExecutor(chats + 1) as pool:
            list(pool.map(again, range(chats + 1)))


@contextmanager
def observed_stack(folder: Path) -> Iterator[Observed]:
    """Start two chat workers, a video worker, an API that asks for keys, and a Prometheus."""
    settings = Settings(home=folder / "home", lease_ttl_s=2, drain_s=0.5)
    settings.home_dir.mkdir()
    settings.models_dir.symlink_to(asset(MODELS[0]).parent)
    with Cluster(settings, "worker.app") as cluster:
        keys = Keys(cluster.ledger.store)
        key, metrics = keys.create("test").text, keys.create("prometheus", scopes=["metrics"]).text
        address = httpx.URL(cluster.settings.url).netloc.decode()
        cluster.wait_for_workers()
        with running_prometheus(folder / "prometheus", address, metrics) as prometheus:
            yield Observed(cluster, prometheus, key)
    assert not cluster.stop_errors, cluster.stop_errors
