"""The Grafana dashboard asks for metrics that the gateways give."""

import ast
import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def drawn() -> set[str]:
    """The metrics that the dashboard asks Prometheus for."""
    dashboard = json.loads((REPOSITORY / "cluster/grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}


def test_every_metric_of_the_dashboard_is_one_that_is_counted() -> None:
    source = ast.parse((REPOSITORY / "s2d_ray/serving/prometheus.py").read_text())
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    kinds = {
        str(ast.literal_eval(call.args[0])): call.func.id
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in ("Counter", "Gauge", "Histogram")
    }
    endings = {"Counter": "_total", "Gauge": "", "Histogram": "_bucket"}
    counted = {f"ray_{name}{endings[kind]}" for name, kind in kinds.items()}
    assert drawn() == counted
