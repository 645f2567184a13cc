"""The expressions of the board and the alerts, evaluated by a real Prometheus that scrapes a real stack."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.deploy.observed import Observed, observed_stack
from tests.deploy.prometheus import PROMETHEUS, SCRAPE_S
from tests.support.deploy import KEDA, board_panels, panel_queries, read_all
from tests.support.stack import eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROMETHEUS is None, reason="Debian's `prometheus` is not installed"),
]

#: Grafana takes four scrapes, too.
VARIABLES = {"$__rate_interval": f"{4 * SCRAPE_S}s", "$model": ".*"}


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A stack that a Prometheus watches."""
    with observed_stack(tmp_path_factory.mktemp("observed")) as observed:
        yield observed


def missing(observed: Observed) -> dict[str, str]:
    """Return the expressions of the board that have no value, by panel and legend."""
    return {
        f"{panel['title']}: {legend}": expression
        for panel in board_panels()
        for legend, expression in panel_queries(panel, VARIABLES)
        if not any(series.values for series in observed.prometheus.series(expression))
    }


def test_board_has_a_value_for_every_expression_after_the_first_chat_and_video(observed: Observed) -> None:
    """This is what `make demo` runs."""
    assert observed.chat(20) == "succeeded"
    assert observed.video() == "succeeded"
    with suppress(TimeoutError):  # the second line names what is missing
        eventually(lambda: not missing(observed), "values", 30)
    assert missing(observed) == {}


def test_resume_gap_contains_the_lease_of_a_killed_worker(observed: Observed) -> None:
    observed.kill_busy_worker()
    mean = "sum(stoker_resume_gap_seconds_sum) / sum(stoker_resume_gap_seconds_count)"
    found = eventually(lambda: [each for each in observed.prometheus.series(mean) if each.values], "a gap")
    assert list(found[0].values.values())[-1] > observed.cluster.settings.lease_ttl_s / 2


def test_alerts_and_keda_queries_are_evaluated(observed: Observed) -> None:
    def evaluated() -> bool:
        [group] = observed.prometheus.get("rules")["groups"]
        return bool(group["rules"]) and all(rule["health"] == "ok" for rule in group["rules"])

    eventually(evaluated, "rules")
    for scaled in read_all(KEDA):
        for trigger in scaled["spec"]["triggers"]:
            assert observed.prometheus.series(trigger["metadata"]["query"]), trigger
