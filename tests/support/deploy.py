"""The files in `deploy/`, as the programs that use them read them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from tests.support.docs import ROOT

__all__ = [
    "ALERTS",
    "BOARD",
    "DEPLOY",
    "KEDA",
    "KUBECTL",
    "KUBERNETES",
    "Manifest",
    "board_panels",
    "built",
    "metric_names",
    "panel_queries",
    "queries",
    "read_all",
]

Manifest = dict[str, Any]

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
BOARD = DEPLOY / "grafana" / "stoker.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
KEDA = DEPLOY / "keda.yaml"
KUBECTL = shutil.which("kubectl")
#: What Grafana puts into a query in place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}


def read_all(file: Path) -> list[Manifest]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(file.read_text()))


def built(folder: str) -> list[Manifest]:
    """Return the resources that `kubectl apply -k deploy/kubernetes/FOLDER` would send."""
    text = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES / folder)], text=True)
    return list(yaml.safe_load_all(text))


def board_panels() -> list[Manifest]:
    """Return the panels of the board, and its rows."""
    return list(json.loads(BOARD.read_text())["panels"])


def panel_queries(panel: Manifest, variables: Mapping[str, str] = VARIABLES) -> Iterator[tuple[str, str]]:
    """Yield the legend and the expression of each query of a panel, with the variables replaced."""
    for target in panel.get("targets", ()):
        expression = str(target["expr"])
        for name, value in variables.items():
            expression = expression.replace(name, value)
        yield target["legendFormat"], expression


def queries() -> dict[str, str]:
    """Return all expressions of the board, the alerts and KEDA's triggers, by where they are."""
    found = {
        f"{panel['title']}: {legend}": expression
        for panel in board_panels()
        for legend, expression in panel_queries(panel)
    }
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    for scaled in read_all(KEDA):
        for trigger in scaled["spec"]["triggers"]:
            found[f"keda.yaml: {scaled['metadata']['name']}"] = trigger["metadata"]["query"]
    return found


def metric_names(expression: str) -> set[str]:
    """Return the names of the metrics in a PromQL expression. Raises `ValueError` if it is not valid."""
    names = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            names.add(re.sub("_(bucket|sum|count)$", "", node.name))
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return names
