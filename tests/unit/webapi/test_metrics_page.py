from collections.abc import Callable, Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from webapi.native.metrics import export
from webapi.services.backend import Backend
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import Counter, Gauge, Histogram, Increments
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
#: The name of a model with characters that the formats have to escape.
MODEL = 'a b/c:8%20 "d"\\\n{e="f"} ü'
CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


@pytest.fixture
def backend(settings: Settings) -> Iterator[Backend]:
    backend = Backend.from_settings(settings)
    yield backend
    backend.store.close()


def raise_all(backend: Backend) -> None:
    """Raise all metrics, each with the model's name in all its labels."""
    increments = Increments()
    for metric in METRICS.values():
        labels = [MODEL] * len(metric.labels)
        if isinstance(metric, Counter):
            increments.count(metric, *labels, by=2.5)
        elif isinstance(metric, Histogram):
            increments.observe_all(metric, [*metric.buckets, 1e6], *labels)
    backend.metrics.add(increments, "test", 1)
    Ledger(backend.store).submit("a", f"chat.{MODEL}", CHAT)
    Ledger(backend.store).cancel("a")


def read(backend: Backend, accept: str, parse: Callable[..., object]) -> tuple[dict[str, str], Samples]:
    """Return the types of the families on the page, and its samples."""
    page, _ = export(backend, accept)
    families = list(parse(page.decode()))  # type: ignore[call-overload]
    samples = {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
    return {family.name: family.type for family in families}, samples


def test_metrics_page_is_valid_openmetrics_whatever_the_names_are(backend: Backend) -> None:
    raise_all(backend)
    types, samples = read(backend, OPENMETRICS, parse_openmetrics)
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    assert types == {name.removesuffix("_total"): kinds[type(each)] for name, each in METRICS.items()}
    for name, metric in METRICS.items():
        labels = frozenset((label, MODEL) for label in metric.labels)
        if isinstance(metric, Histogram):
            buckets = [samples[f"{name}_bucket", labels | {("le", le)}] for le in metric.boundaries]
            assert buckets == list(range(1, len(buckets) + 1)), name
            assert samples[f"{name}_count", labels] == len(buckets)
            assert samples[f"{name}_sum", labels] == pytest.approx(sum(metric.buckets) + 1e6)
    assert samples["stoker_jobs_waiting", frozenset({("queue", f"chat.{MODEL}")})] == 0
    aborted = {("model_name", MODEL), ("engine", "0"), ("finished_reason", "abort")}
    assert samples["vllm:request_success_total", frozenset(aborted)] == 1
    assert not [name for name, _ in samples if name.endswith("_created")]


def test_metrics_page_has_the_same_samples_in_both_formats_and_all_processes(backend: Backend) -> None:
    raise_all(backend)
    _, samples = read(backend, OPENMETRICS, parse_openmetrics)
    other = Backend.from_settings(backend.settings)
    assert read(other, "text/plain", parse_text)[1] == samples
    other.store.close()
