"""The queries of a panel as Grafana sends them to Prometheus: with variables filled in."""

from __future__ import annotations

from math import isfinite
from typing import Any

from deploy.grafana.panels import Dashboard
from tests.operating.prometheus_server import PrometheusServer

__all__ = ["assert_shows_data", "panels_of"]


def panels_of(*dashboards: Dashboard) -> dict[str, dict[str, Any]]:
    """The panels with queries, by dashboard and title."""
    return {
        f"{dashboard.title}: {panel['title']}": panel
        for dashboard in dashboards
        for panel in dashboard.model()["panels"]
        if panel["type"] != "row"
    }


def filled_in(expression: str, job: str) -> str:
    """An expression with the values that Grafana would put in; windows are short, as the scrapes are close."""
    values = {"$job": job, "$operator": ".+", "$__rate_interval": "3s", "$__range": "30s"}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable without a value: {expression}"
    return expression


def assert_shows_data(prometheus: PrometheusServer, panel: dict[str, Any], job: str) -> None:
    """Each query of a panel gives a number within seconds, and each series a legend without a gap."""
    for target in panel["targets"]:
        expression = filled_in(target["expr"], job)
        prometheus.until(lambda asked=expression: _numbers(prometheus, asked), expression)
        for series in prometheus.query(expression):
            for label in target["legendFormat"].split("{{")[1:]:
                name = label.partition("}}")[0]
                assert series["metric"].get(name), f"{expression} has no label {name}: {series['metric']}"


def _numbers(prometheus: PrometheusServer, expression: str) -> list[float]:
    found = [float(series["value"][1]) for series in prometheus.query(expression)]
    return [value for value in found if isfinite(value)]
