"""Redis and Sentinels with the configuration of `deploy/kubernetes`, as pods, under a running chat.

`test_redis_pods.py` runs it in namespaces of its own: `python -m tests.deploy.redis_pods FOLDER`.
"""

import sys
from pathlib import Path
from typing import Any

from tests.deploy.pods import Pod, PodNetwork
from tests.support.cluster import Cluster
from tests.support.deploy import Manifest, built
from tests.support.event_checks import check_log
from tests.support.stack import eventually
from webapi.client import Client
from worker.jobs.settings import Settings

PASSWORD = "5c3d0a"
APP = "tests.support.workers.unruly"
CHATS: dict[str, Any] = {"kinds": ("chat",), "lease_ttl_s": 2, "drain_s": 0.5, "chat_model": "unruly"}
BODY = {"messages": [{"role": "user", "content": "long"}], "max_tokens": 1000}


def main(folder: Path) -> None:
    """Start the pods and a cluster of Stoker's processes, and let servers die under its chats."""
    resources = {(each["kind"], each["metadata"]["name"].split("-")[0]): each for each in built("base")}
    (folder / "secrets").mkdir()
    (folder / "secrets" / "redis_password").write_text(f"{PASSWORD}\n")
    write_scripts(resources["ConfigMap", "redis"], folder)
    network = PodNetwork(folder / "hosts")
    pods = {
        pod.name: pod
        for kind in ("redis", "sentinel")
        for pod in start_pods(network, resources["StatefulSet", kind], folder)
    }
    eventually(lambda: all(pod.is_ready() for pod in pods.values()), "pods that are ready")
    eventually(lambda: all(knows_all(pod) for name, pod in pods.items() if "sentinel" in name), "Sentinels")
    env = resources["ConfigMap", "settings"]["data"]
    wanted = {name: env[name] for name in ("STOKER_REDIS_URL", "STOKER_REDIS_REPLICAS")}
    settings = Settings.from_env(wanted | {"STOKER_REDIS_PASSWORD": PASSWORD})
    with PodCluster(settings.replace(home=folder / "home", **CHATS), APP) as cluster:
        check_failover(cluster, pods)
        check_outage(cluster, pods)
    assert not cluster.stop_errors, cluster.stop_errors


class PodCluster(Cluster):
    """A cluster without a Redis of its own."""

    def __init__(self, settings: Settings, app: str) -> None:
        super().__init__(settings, app)
        self.settings = self.settings.replace(redis_url=settings.redis_url)
        self._redis_argv = {}


def write_scripts(config: Manifest, folder: Path) -> None:
    """Write the files of the ConfigMap. Each folder of a pod is a folder of this test."""
    (folder / "etc").mkdir()
    for name, text in config["data"].items():
        (folder / "etc" / name).write_text(text)


def start_pods(network: PodNetwork, stateful_set: Manifest, folder: Path) -> list[Pod]:
    """Start the pods of the StatefulSet. The scripts name the folders of a pod, so each pod has a copy."""
    pods = []
    for index in range(stateful_set["spec"]["replicas"]):
        own = folder / f"{stateful_set['metadata']['name']}-{index}"
        folders = {"/data": own / "volume", "/etc/redis": own / "etc", "/etc/stoker": folder / "secrets"}
        for place in (own / "volume", own / "etc"):
            place.mkdir(parents=True)
        for script in (folder / "etc").iterdir():
            text = script.read_text()
            for there, here in folders.items():
                text = text.replace(there, str(here))
            (own / "etc" / script.name).write_text(text)
        pods.append(Pod(network, stateful_set, index, folders))
    return pods


def knows_all(sentinel: Pod) -> bool:
    """Return whether the Sentinel knows both replicas and both other Sentinels."""
    said = sentinel.run("redis-cli", "-p", "26379", "sentinel", "master", "mymaster").stdout.split()
    state = dict(zip(said[::2], said[1::2], strict=False))
    return state.get("num-slaves") == "2" and state.get("num-other-sentinels") == "2"


def primary(pods: dict[str, Pod]) -> str | None:
    """Return the pod that all Sentinels name as the primary; None if they do not agree."""
    ask = ["redis-cli", "-p", "26379", "sentinel", "get-master-addr-by-name", "mymaster"]
    named = {pod.run(*ask).stdout.split(".")[0] for name, pod in pods.items() if "sentinel" in name}
    return named.pop() if len(named) == 1 else None


def check_failover(cluster: Cluster, pods: dict[str, Pod]) -> None:
    """Kill the primary in the middle of a chat. It comes back with another address, as a replica."""
    assert primary(pods) == "redis-0"
    with Client(cluster.settings.url) as client:
        job_id = client.submit_chat(BODY)["id"]
        stream = client.events(job_id)
        seen = [next(event for event in stream if event["type"] == "token")]
        pods["redis-0"].kill()
        second = eventually(lambda: {primary(pods)} - {"redis-0", None}, "another primary").pop()
        seen += stream
        events = list(client.events(job_id))
    assert list(check_log(events)) == []
    assert events[-1]["type"] == "succeeded"
    assert events[-len(seen) :] == seen
    pods["redis-0"].start()
    eventually(pods["redis-0"].is_ready, "redis-0")
    eventually(lambda: role(pods["redis-0"]) == "slave", "redis-0 as a replica")
    assert role(pods[str(second)]) == "master"


def check_outage(cluster: Cluster, pods: dict[str, Pod]) -> None:
    """Kill all servers at once. They come back with their data and with other addresses."""
    with Client(cluster.settings.url) as client:
        before = [job["id"] for job in client.jobs()]
        servers = [pod for name, pod in pods.items() if "redis" in name]
        for pod in servers:
            pod.kill()
        for pod in servers:
            pod.start()
        eventually(lambda: all(pod.is_ready() for pod in servers), "servers that are ready")
        eventually(cluster._is_ready, "an API that is ready")
        job_id = client.submit_chat(BODY)["id"]
        assert list(client.events(job_id))[-1]["type"] == "succeeded"
        assert [job["id"] for job in client.jobs()] == [job_id, *before]


def role(pod: Pod) -> str:
    """Return the role of the server: `master` or `slave`."""
    auth = "REDISCLI_AUTH=$(cat /etc/stoker/redis_password) redis-cli role | head -n 1"
    return pod.run("sh", "-ec", auth).stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
