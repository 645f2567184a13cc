"""Tests of the board, the alerts, the scrape configuration and `keda.yaml` in `deploy/`."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.deploy import (
    ALERTS,
    BOARD,
    DEPLOY,
    KEDA,
    KUBERNETES,
    board_panels,
    metric_names,
    queries,
    read_all,
)
from tests.support.docs import ROOT
from worker.jobs.metrics.catalog import METRICS
from worker.video.runner_factory import GPU_SLOTS

#: The number of columns of Grafana's grid.
COLUMNS = 24


def test_queries_are_valid_promql_and_name_metrics_that_exist() -> None:
    for place, expression in queries().items():
        names = metric_names(expression)
        assert names, place
        assert names <= METRICS.keys() | {"up"}, place


def test_board_panels_have_own_ids_and_places() -> None:
    panels = board_panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        taken |= cells


def test_board_has_rows_and_variables() -> None:
    board = json.loads(BOARD.read_text())
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Chat", "Video", "Queue", "Workers", "Recovery"]
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "model"]
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed"
)
def test_promtool_accepts_rules_and_configuration() -> None:
    folder = DEPLOY / "prometheus"
    for command in (
        ["check", "config", "--syntax-only", str(folder / "prometheus.yaml")],
        ["check", "rules", str(ALERTS)],
        ["test", "rules", str(folder / "alerts.test.yaml")],
    ):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_all_have_a_test_and_a_row_in_the_documentation() -> None:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yaml").read_text())["tests"]
    tested = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert tested == names
    assert set(re.findall(r"^\| `(Stoker\w+)` \|", (ROOT / "docs/monitoring.md").read_text(), re.M)) == names


def test_keda_scales_existing_workers_by_their_slots() -> None:
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in read_all(KEDA)}
    assert scaled.keys() == {"chat-worker", "video-worker"}
    [chat], [video] = (scaled[name]["triggers"] for name in ("chat-worker", "video-worker"))
    assert f"STOKER_SLOTS={chat['metadata']['threshold']}\n" in (KUBERNETES / "base/settings.env").read_text()
    assert video["metadata"]["threshold"] == str(GPU_SLOTS)
    for name in scaled:
        [deployment] = read_all(KUBERNETES / "base" / f"{name}.yaml")
        assert deployment["metadata"]["name"] == name
        assert "replicas" not in deployment["spec"]  # `kubectl apply` would undo KEDA's number


def test_prometheus_scrapes_the_api_of_compose() -> None:
    [scrape] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    metrics = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["metrics"]
    assert scrape["static_configs"] == [{"targets": ["web:8000"]}]
    assert scrape["authorization"] == {"credentials_file": "/etc/stoker/metrics"}
    assert "./deploy/prometheus:/etc/prometheus:ro" in metrics["volumes"]
    assert "keys:/etc/stoker:ro" in metrics["volumes"]
