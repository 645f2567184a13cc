import re
from importlib import resources

from hypothesis import given
from hypothesis import strategies as st

from worker.jobs.ledger.store import RedisStore
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import MICROSECONDS, Counter, Gauge, Histogram, Increments, split_field
from worker.jobs.metrics.series import Distribution, counts, distributions, grouped
from worker.jobs.settings import Settings

COUNTER = Counter("seen_total", "Things.", ("what", "where"))
SECONDS = Histogram("took_seconds", "Times.", ("what",), MICROSECONDS, (0.5, 2.0))
LABELS = ["", " ", "%20", "% a", "meta-llama/Llama 3.1:8b", "sum", "+Inf", "ä\n"]


def stored(increments: Increments) -> dict[str, str]:
    """Return the increments as Redis returns them."""
    return {field: str(amount) for field, amount in increments.items()}


@given(st.lists(st.tuples(st.text(), st.text()), unique=True))
def test_counter_series_are_told_apart_whatever_their_labels_are(labels: list[tuple[str, str]]) -> None:
    increments = Increments()
    for number, (what, where) in enumerate(labels, start=1):
        increments.count(COUNTER, what, where, by=number)
    series = dict(counts(COUNTER, grouped(stored(increments)).get(COUNTER.name, {})))
    assert series == {pair: number for number, pair in enumerate(labels, start=1)}


def test_histogram_counts_values_up_to_each_boundary_and_sums_them_exactly() -> None:
    increments = Increments()
    for value in (-1.0, 0.5, 0.500001, 2.0, 7.0):
        increments.observe(SECONDS, value, "a b")
    series = dict(distributions(SECONDS, grouped(stored(increments))[SECONDS.name]))
    assert series == {("a b",): Distribution([("0.5", 2), ("2.0", 4), ("+Inf", 5)], 10.000001 - 0.5 + 0.5)}


def test_histogram_takes_values_of_a_release_with_other_boundaries() -> None:
    other = Histogram(SECONDS.name, "", SECONDS.labels, MICROSECONDS, (0.1, 0.5, 1.0, 3.0))
    increments = Increments()
    for value in (0.1, 0.4, 0.9, 2.5):
        increments.observe(other, value, "x")
    ((_, distribution),) = distributions(SECONDS, grouped(stored(increments))[SECONDS.name])
    assert distribution.buckets == [("0.5", 2), ("2.0", 3), ("+Inf", 4)]


def test_counter_in_seconds_keeps_microseconds() -> None:
    counter, increments = Counter("busy_seconds_total", "", (), MICROSECONDS), Increments()
    for _ in range(10):
        increments.count(counter, by=0.1)
    assert list(counts(counter, grouped(stored(increments))[counter.name])) == [((), 1.0)]


def test_scripts_write_the_same_fields_as_workers(settings: Settings) -> None:
    store = RedisStore(settings)
    histogram = METRICS["stoker_job_queue_seconds"]
    assert isinstance(histogram, Histogram)
    expected, seconds = Increments(), [0.0, 0.3, 0.4, 1.0, 7680.0, 7681.0]
    for label in LABELS:
        for value in seconds:
            expected.observe(histogram, value, label)
    scripts, client = store.scripts, store.client
    scripts.sha("load")  # reads the shared part
    body = "for i = 7, #ARGV do observe('stoker_job_queue_seconds', tonumber(ARGV[i]), ARGV[6]) end"
    for label in LABELS:
        client.eval(scripts._shared + body, 0, *store.common_args("x"), label, *seconds)
    assert client.hgetall(store.key("metrics")) == stored(expected)
    store.close()


def test_catalog_knows_every_metric_of_the_scripts() -> None:
    folder = resources.files("worker.jobs.ledger").joinpath("lua")
    source = "".join(each.read_text("utf-8") for each in folder.iterdir())
    used = re.findall(r"\b(count|observe|raise)\((?:\w+, )?'([^']+)'", source)
    assert len(used) > 5
    for function, name in used:
        assert isinstance(METRICS[name], Histogram if function == "observe" else Counter), name


def test_catalog_names_follow_the_conventions_of_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"(vllm:|stoker_)[a-z0-9_]+", name)
        assert metric.help.endswith("."), name
        assert name.endswith("_total") == isinstance(metric, Counter), name
        assert isinstance(metric, Gauge) or (metric.scale == MICROSECONDS) == ("seconds" in name), name
        if isinstance(metric, Histogram):
            assert list(metric.buckets) == sorted(set(metric.buckets)), name


def test_field_is_split_into_its_parts() -> None:
    assert split_field(COUNTER.field("a b", "%20")) == (COUNTER.name, ["a b", "%20"])
