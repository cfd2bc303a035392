"""Draw the dashboards as SVG files from what a Prometheus has of a job, to see them where there is no Grafana:

python -m deploy.grafana.preview http://127.0.0.1:9090 JOB FOLDER

Places, queries, units and legends are the dashboards'; Grafana draws them more finely, and lets one choose.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from deploy.grafana.__main__ import DASHBOARDS

__all__ = ["draw", "main"]

_COLUMN, _LINE, _GAP = 50, 30, 8
_POINTS: Final = 50
_SECONDS: Final = 60
_WINDOW: Final = "5s"
_COLORS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff")
_FONT: Final = "Inter, Helvetica, Arial, sans-serif"
_PAPER, _PANEL, _EDGE, _INK, _SOFT = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8ea0"
_STEPS: Final = (("s", 60.0, "min"), ("min", 60.0, "h"), ("h", 24.0, "d"), ("d", 365.0, "a"))

_Series = tuple[str, list[tuple[float, float]]]
_Asked = Callable[[dict[str, Any]], list[_Series]]


def draw(model: dict[str, Any], asked: _Asked) -> str:
    """A dashboard as SVG text. `asked` gives the series of a target: legend, and points of time and value."""
    panels = model["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * _LINE + 60
    width = 24 * _COLUMN + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{_FONT}">',
        f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>',
        _text(16, 34, f"streamflow / {model['title']}", 20),
    ]
    for panel in panels:
        place = panel["gridPos"]
        x, y = place["x"] * _COLUMN + _GAP, place["y"] * _LINE + 52
        if panel["type"] == "row":
            parts.append(_text(x + 4, y + 20, f"⌄ {panel['title']}", 15))
            continue
        w, h = place["w"] * _COLUMN - _GAP, place["h"] * _LINE - _GAP
        series = [each for target in panel["targets"] for each in asked(target)]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        parts.append(
            f'<g transform="translate({x} {y})">'
            f'<rect width="{w}" height="{h}" rx="2" fill="{_PANEL}" stroke="{_EDGE}"/>'
            + _text(10, 20, panel["title"], 13)
            + _KINDS[panel["type"]](panel, series, unit, w, h)
            + "</g>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _number(panel: dict[str, Any], series: Sequence[_Series], unit: str, w: int, h: int) -> str:
    if not series:
        return _text(w / 2, h / 2 + 14, "no data", 16, _SOFT, "middle")
    name, points = series[0]
    value = points[-1][1]
    color = "#73bf69"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is not None and value >= step["value"]:
            color = {"yellow": "#f2cc0c", "orange": "#ff9830", "red": "#f2495c"}[step["color"]]
    shown = name if panel["options"]["textMode"] == "name" else _shown(value, unit)
    return _text(w / 2, h / 2 + 20, shown, min(34, int(w * 1.7 / max(6, len(shown)))), color, "middle")


def _bars(panel: dict[str, Any], series: Sequence[_Series], unit: str, w: int, h: int) -> str:
    line = min(24.0, (h - 36) / max(1, len(series)))
    most = panel["fieldConfig"]["defaults"].get("max") or max(
        [1e-9, *(points[-1][1] for _, points in series)]
    )
    parts: list[str] = []
    for row, (name, points) in enumerate(series):
        y, value = 32 + row * line, points[-1][1]
        parts.append(_text(10, y + line * 0.6, name[:26], min(11, int(line * 0.8)), _SOFT))
        room = w - 250
        parts.append(f'<rect x="180" y="{y:.1f}" width="{room}" height="{line * 0.75:.1f}" fill="{_EDGE}"/>')
        filled = room * min(1.0, value / most)
        parts.append(
            f'<rect x="180" y="{y:.1f}" width="{filled:.1f}" height="{line * 0.75:.1f}" fill="#73bf69"/>'
        )
        parts.append(
            _text(w - 10, y + line * 0.7, _shown(value, unit), min(11, int(line * 0.8)), _INK, "end")
        )
    return "".join(parts)


def _lines(panel: dict[str, Any], series: Sequence[_Series], unit: str, w: int, h: int) -> str:
    points = [point for _, each in series for point in each]
    if not points:
        return _text(w / 2, h / 2, "no data", 16, _SOFT, "middle")
    rows = (min(len(series), 6) + 1) // 2
    left, right, top, bottom = 62, w - 12, 36, h - 14 - 15 * rows
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    high = high * 1.1 if high > low else low + 1
    parts: list[str] = []
    for tick in range(4):
        value = low + (high - low) * tick / 3
        y = bottom - (bottom - top) * tick / 3
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{_EDGE}"/>')
        parts.append(_text(left - 6, y + 4, _shown(value, unit), 10, _SOFT, "end"))
    for index, (name, each) in enumerate(series):
        color = _COLORS[index % len(_COLORS)]
        spots = " ".join(
            f"{left + (right - left) * (at - first) / max(1e-9, last - first):.1f},"
            f"{bottom - (bottom - top) * (value - low) / (high - low):.1f}"
            for at, value in each
        )
        parts.append(f'<polyline points="{spots}" fill="none" stroke="{color}" stroke-width="1.3"/>')
        if index < 6:
            x, y = 12 + (index % 2) * (w / 2), h - 15 * rows + 15 * (index // 2) + 2
            parts.append(f'<rect x="{x:.0f}" y="{y - 4:.0f}" width="12" height="3" fill="{color}"/>')
            legend = f"{name[: int(w / 16)]}   {_shown(each[-1][1], unit)}"
            parts.append(_text(x + 18, y + 1, legend, 10, _INK))
    return "".join(parts)


_KINDS: Final = {"stat": _number, "bargauge": _bars, "timeseries": _lines}


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
    if unit == "s":
        if abs(value) < 1:
            return f"{value * 1000:.3g} ms"
        name = unit
        for low, factor, above in _STEPS:
            if name == low and abs(value) >= factor:
                value, name = value / factor, above
        return f"{value:.3g} {name}"
    suffix = {"bytes": "B", "binBps": "B/s", "cps": "/s", "ops": "/s"}.get(unit, "")
    base, names = (1024, ("", "Ki", "Mi", "Gi")) if suffix.startswith("B") else (1000, ("", "K", "M", "G"))
    step = 0
    while abs(value) >= base and step < len(names) - 1:
        value, step = value / base, step + 1
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {names[step]}{suffix}".rstrip()


def _text(x: float, y: float, text: str, size: int, color: str = _INK, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def main(url: str, job: str, folder: Path) -> None:
    """Draw every dashboard with the last minute of `job`."""
    direct = build_opener(ProxyHandler({}))
    end = time()

    def asked(target: dict[str, Any]) -> list[_Series]:
        values = {"$job": job, "$operator": ".+", "$__rate_interval": _WINDOW, "$__range": f"{_SECONDS}s"}
        expression = target["expr"]
        for variable, value in values.items():
            expression = expression.replace(variable, value)
        span = {"start": end - _SECONDS, "end": end, "step": _SECONDS / _POINTS}
        with direct.open(f"{url}/api/v1/query_range?{urlencode({'query': expression, **span})}") as answer:
            result = json.load(answer)["data"]["result"]
        found: list[_Series] = []
        for series in result:
            legend = target["legendFormat"]
            for label, value in series["metric"].items():
                legend = legend.replace("{{" + label + "}}", value)
            points = [(at, float(value)) for at, value in series["values"] if isfinite(float(value))]
            if points:
                found.append((legend, points))
        return found

    for name, dashboard in DASHBOARDS.items():
        drawn = draw(dashboard.model(), asked)
        (folder / f"dashboard-{name.removesuffix('.json')}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
