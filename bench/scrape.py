"""Measure how long one API process takes for `GET /metrics` with a full Redis.

    python -m bench.scrape [--jobs 100000] [--keys 1000] [--models 4] [--workers 20] [--scrapes 50]

The jobs wait in the queues of the models. Each key owns one of them, and the first key all others. Every
metric in Redis has a series for each model, and each histogram a value in each of its buckets. The CPU time
is that of the API per scrape, whatever else it does meanwhile.
"""

import argparse
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack

from bench.cost import cpu_s
from bench.processes import running_process, scripted_settings
from bench.streams import median_ms
from tests.support.stack import eventually
from webapi.local.commands import web_argv
from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import Counter, Histogram, Increments
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--workers", type=int, default=20, help="in all")
    parser.add_argument("--scrapes", type=int, default=50, help="of each format")
    args = parser.parse_args()
    limits = {"max_waiting": args.jobs, "max_waiting_per_key": args.jobs, "max_kept_bytes": 2**40}
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(lease_ttl_s=3600, **limits))
        models = [f"model-{number}" for number in range(args.models)]
        fill(settings, models, args.jobs, args.keys, args.workers)
        log = settings.home_dir / "web.log"
        api = {"API": stack.enter_context(running_process(web_argv(settings), settings, log))}
        eventually(lambda: answers(settings.url), "the API")
        print(f"{'format':>12} {'kB':>6} {'median':>9} {'longest':>9} {'CPU':>9}")
        for name, accept in FORMATS.items():
            before = cpu_s(api)["API"]
            sizes, times = zip(*(scrape(settings.url, accept) for _ in range(args.scrapes)), strict=True)
            figures = median_ms(times), 1000 * max(times), 1000 * (cpu_s(api)["API"] - before) / len(times)
            row = "".join(f" {ms:>6.1f} ms" for ms in figures)
            print(f"{name:>12} {sizes[-1] / 1000:>6.0f}{row}", flush=True)


def fill(settings: Settings, models: list[str], jobs: int, keys: int, workers: int) -> None:
    """Fill Redis with waiting jobs, workers' cards and metrics."""
    store = RedisStore(settings)
    ledger, registry = Ledger(store), Registry(store)
    for number in range(jobs):
        queue = f"chat.{models[number % len(models)]}"
        ledger.submit(uuid.uuid4().hex, queue, CHAT, f"key-{max(0, number - jobs + keys)}")
    for number in range(workers):
        model = models[number % len(models)]
        queue = f"chat.{model}"
        registry.renew(WorkerCard(f"w{number}", "chat", "host", 1, "0", model, "vllm", queue, 64, 0))
        registry.publish_model(ModelCard(model, "chat", queue))
    increments = Increments()
    for metric in METRICS.values():
        for model in models:
            labels = [model] * len(metric.labels)
            if isinstance(metric, Counter):
                increments.count(metric, *labels)
            elif isinstance(metric, Histogram):
                increments.observe_all(metric, [*metric.buckets, 1e6], *labels)
    MetricsStore(store).add(increments, "bench", 1)
    store.close()


def answers(url: str) -> bool:
    """Return whether the API answers."""
    try:
        return bool(scrape(url, FORMATS["text"]))
    except urllib.error.URLError:
        return False


def scrape(url: str, accept: str) -> tuple[int, float]:
    """Return the bytes of the page, and how many seconds it took."""
    request = urllib.request.Request(f"{url}/metrics", headers={"Accept": accept})
    began = time.perf_counter()
    with urllib.request.urlopen(request) as response:
        size = len(response.read())
    return size, time.perf_counter() - began


if __name__ == "__main__":
    main()
