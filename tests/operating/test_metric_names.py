"""Code, dashboards, alerts and documentation call the same metrics by the same names.

The metrics of running jobs are compared in test_prometheus.py and test_kafka_dashboard.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from deploy.grafana.__main__ import DASHBOARDS
from tests.architecture.repository import package_modules
from tests.operating.metric_names import ROOT, documented, named_in, shown_by

RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
SHOWN = shown_by(DASHBOARDS.values())

_MAKERS = {"counter", "gauge", "GaugeMetricFamily", "CounterMetricFamily"}


def metrics_of_the_code() -> Iterator[str]:
    """Patterns of the names under which the package makes metrics: literals, constants, and f-strings."""
    for file in package_modules():
        text = file.read_text(encoding="utf-8")
        if not any(maker in text for maker in _MAKERS):
            continue
        tree = ast.parse(text)
        constants = {
            target.id: value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
            if (value := node.value) is not None
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                given = node.args[0]
                if isinstance(given, ast.Name):
                    given = constants.get(given.id, given)
                if name in _MAKERS and (pattern := _pattern(given)):
                    yield pattern


def _pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) or "[a-z_]+" for part in node.values)
    return ""


CODE = sorted(set(metrics_of_the_code()))


@pytest.mark.parametrize("pattern", CODE)
def test_a_metric_of_the_code_is_documented_and_shown(pattern: str) -> None:
    for known in (documented(), SHOWN):
        assert any(re.fullmatch(pattern, name) for name in known), pattern


@pytest.mark.parametrize("name", sorted(SHOWN | documented()))
def test_a_metric_that_is_shown_or_documented_is_made_somewhere(name: str) -> None:
    assert any(re.fullmatch(pattern, name) for pattern in CODE)


def test_dashboards_and_documentation_have_the_same() -> None:
    assert documented() == SHOWN


def test_alerts_are_about_what_the_dashboards_show() -> None:
    asked = named_in("\n".join(rule["expr"] for group in RULES for rule in group["rules"]))
    assert asked <= SHOWN
