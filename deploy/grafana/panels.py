"""The parts of a dashboard, and the JSON that Grafana reads (its classic model, which it migrates by itself).

The files beside this one hold only the differences between dashboards; the look of panels is decided here, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, Final, Literal

__all__ = ["Dashboard", "Panel", "Query", "Row", "bars", "graph", "number", "word"]

Kind = Literal["timeseries", "stat", "bargauge"]
Color = Literal["green", "yellow", "orange", "red"]

_COLUMNS: Final = 24
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """A PromQL expression and what its series are called, with `{{label}}` for a label's value."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel; `width` of 24 columns, `height` of about 30 pixels each."""

    title: str
    description: str
    queries: Sequence[Query]
    kind: Kind
    unit: str
    width: int
    height: int
    thresholds: Sequence[tuple[float, Color]] = ()
    most: float | None = None
    stacked: bool = False
    by_name: bool = False
    colors: Mapping[str, Color] = field(default_factory=dict[str, Color])

    def model(self, id: int, x: int, y: int) -> dict[str, Any]:
        """The panel as Grafana reads it."""
        return {
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._field(), "overrides": self._overrides()},
            "options": self._options(),
            "targets": [self._target(*each) for each in zip(ascii_uppercase, self.queries, strict=False)],
        }

    def _target(self, ref: str, query: Query) -> dict[str, Any]:
        now = self.kind != "timeseries"
        return {
            "refId": ref,
            "datasource": _DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "instant": now,
            "range": not now,
        }

    def _field(self) -> dict[str, Any]:
        limits: list[tuple[float | None, Color]] = [(None, "green"), *self.thresholds]
        steps = [{"color": color, "value": value} for value, color in limits]
        shown: dict[str, Any] = {
            "unit": self.unit,
            "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
            "thresholds": {"mode": "absolute", "steps": steps},
            "min": 0,
        }
        if self.most is not None:
            shown["max"] = self.most
        if self.kind == "timeseries":
            shown["custom"] = {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 30 if self.stacked else 8,
                "showPoints": "auto",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                # A threshold is a line in a graph, a colour elsewhere.
                "thresholdsStyle": {"mode": "dashed" if self.thresholds else "off"},
            }
        return shown

    def _overrides(self) -> list[dict[str, Any]]:
        return [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
            }
            for name, color in self.colors.items()
        ]

    def _options(self) -> dict[str, Any]:
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        if self.kind == "timeseries":
            return {
                "legend": {
                    "showLegend": True,
                    "displayMode": "table",
                    "placement": "bottom",
                    "calcs": ["lastNotNull", "max"],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        if self.kind == "bargauge":
            return {
                "reduceOptions": last,
                "orientation": "horizontal",
                "displayMode": "basic",
                "showUnfilled": True,
            }
        return {
            "reduceOptions": last,
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "name" if self.by_name else "value",
        }


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    width: int = 12,
    thresholds: Sequence[tuple[float, Color]] = (),
    most: float | None = None,
    stacked: bool = False,
) -> Panel:
    """A panel with lines over time."""
    return Panel(title, description, queries, "timeseries", unit, width, 8, thresholds, most, stacked)


def number(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str,
    width: int = 4,
    thresholds: Sequence[tuple[float, Color]] = (),
) -> Panel:
    """A panel with one number."""
    return Panel(title, description, [Query(expression, title)], "stat", unit, width, 4, thresholds)


def word(
    title: str,
    description: str,
    query: Query,
    *,
    width: int = 4,
    colors: Mapping[str, Color] | None = None,
) -> Panel:
    """A panel with the name of a series in place of its value."""
    return Panel(title, description, [query], "stat", "none", width, 4, by_name=True, colors=colors or {})


def bars(
    title: str, description: str, *queries: Query, unit: str, width: int = 12, most: float | None = None
) -> Panel:
    """A panel with one bar per series, as it is now."""
    return Panel(title, description, queries, "bargauge", unit, width, 8, most=most)


@dataclass(frozen=True)
class Row:
    """Panels under a heading, side by side as long as there is room."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """Rows of panels for one job (`$job`), and for some of its operators (`$operator`)."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]

    def model(self) -> dict[str, Any]:
        """The dashboard as Grafana reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["streamflow"],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "5s",
            "time": {"from": "now-30m", "to": "now"},
            "links": [_OTHERS],
            "templating": {"list": [_SOURCES, _JOB, _OPERATOR]},
            "annotations": {"list": [_RESTARTS]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        placed: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            heading = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
            placed.append(
                {
                    "id": len(placed) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": heading,
                    "panels": [],
                }
            )
            y, x, tallest = y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > _COLUMNS:
                    y, x, tallest = y + tallest, 0, 0
                placed.append(panel.model(len(placed) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return placed


_OTHERS: Final = {
    "type": "dashboards",
    "title": "streamflow",
    "tags": ["streamflow"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}

_SOURCES: Final = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {"text": "Prometheus", "value": "prometheus"},
    "hide": 0,
}

_JOB: Final = {
    "name": "job",
    "label": "Job",
    "type": "query",
    "datasource": _DATASOURCE,
    "query": {"query": "label_values(streamflow_job_info, job)", "refId": "job"},
    "refresh": 2,
    "sort": 1,
    "hide": 0,
}

_OPERATOR: Final = {
    "name": "operator",
    "label": "Operator",
    "type": "query",
    "datasource": _DATASOURCE,
    "query": {
        "query": 'label_values(streamflow_records_in_total{job="$job"}, operator)',
        "refId": "operator",
    },
    "refresh": 2,
    "sort": 1,
    "hide": 0,
    "multi": True,
    "includeAll": True,
    "allValue": ".+",
    "current": {"text": ["All"], "value": ["$__all"]},
}

_RESTARTS: Final = {
    "name": "Restarts",
    "datasource": _DATASOURCE,
    "enable": True,
    "iconColor": "red",
    "expr": 'changes(streamflow_restarts_total{job="$job"}[$__rate_interval]) > 0',
    "titleFormat": "restarted",
    "textFormat": "{{instance}}",
    "step": "5s",
}
