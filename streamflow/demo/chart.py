"""A line chart over days as an SVG file, without a plotting library: axes, legend, marked days, light and dark.

The picture adapts to the reader's colour scheme (`prefers-color-scheme`); colours are told apart by people with any
colour vision, and each line has its own dash pattern besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from math import ceil, floor
from typing import Final

__all__ = ["Mark", "line_chart"]

Points = Sequence[tuple[date, float]]

_WIDTH: Final = 960
_HEIGHT: Final = 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 936, 110, 436
_LETTER: Final = 7.5
"""The approximate width of a letter in marks."""
_MOST_LINES: Final = 3
_STEPS: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 240, 480, 1000)


_SHAPES: Final = (
    'text{font-family:"Inter","Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif}'
    ".title{font-size:21px;font-weight:650}.soft{font-size:13.5px}.tick{font-size:12px}"
    ".name{font-size:13.5px;font-weight:600}.marked{font-size:12px;font-weight:600}"
    ".line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}"
    ".l0{stroke-dasharray:none}.l1{stroke-dasharray:7 4}.l2{stroke-dasharray:2 3.5}"
)
_LIGHT: Final = (
    ".paper{fill:#ffffff}.weekend{fill:#f5f7fa}.mark{fill:#fdeee4}"
    ".title,.name,.marked{fill:#1c2430}.soft,.tick{fill:#5b6676}.grid{stroke:#e4e8ee}.zero{stroke:#aab3c0}"
    ".l0{stroke:#1f6feb}.d0{fill:#1f6feb;stroke:#ffffff}.l1{stroke:#d9480f}"
    ".d1{fill:#d9480f;stroke:#ffffff}.l2{stroke:#0b8a6a}.d2{fill:#0b8a6a;stroke:#ffffff}"
)
_DARK: Final = (
    ".paper{fill:#0f141b}.weekend{fill:#141b24}.mark{fill:#33231a}"
    ".title,.name,.marked{fill:#e8edf4}.soft,.tick{fill:#98a4b5}.grid{stroke:#232c38}.zero{stroke:#4a5666}"
    ".l0{stroke:#6aa9ff}.d0{fill:#6aa9ff;stroke:#0f141b}.l1{stroke:#ff9a5c}"
    ".d1{fill:#ff9a5c;stroke:#0f141b}.l2{stroke:#4fd1a8}.d2{fill:#4fd1a8;stroke:#0f141b}"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A day to point out, and the words for it."""

    day: date
    text: str


def line_chart(
    series: Mapping[str, Points],
    *,
    title: str,
    subtitle: str,
    unit: str,
    marks: Sequence[Mark] = (),
) -> str:
    """The chart as SVG text. `series`: up to three lines by name, points in order of their days; `unit` names the
    values' unit on the axis. Raises ValueError without a point or with more lines than colours."""
    days = sorted({day for points in series.values() for day, _ in points})
    if not days or len(series) > _MOST_LINES:
        raise ValueError(f"a chart of {len(series)} lines over {len(days)} days")
    scale = _Scale.over(days, [value for points in series.values() for _, value in points])
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    words = f'role="img" aria-label="{escape(f"{title}. {subtitle}", quote=True)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {size} {words}>',
            f"<style>{_SHAPES}{_LIGHT}@media (prefers-color-scheme:dark){{{_DARK}}}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<text class="title" x="{_LEFT - 40}" y="36">{escape(title)}</text>',
            f'<text class="soft" x="{_LEFT - 40}" y="58">{escape(subtitle)}</text>',
            *_background(scale, marks),
            *_axes(scale, unit),
            *_lines(scale, series),
            *_mark_texts(scale, marks),
            *_legend(list(series)),
            "</svg>\n",
        ]
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """A scale from days and values to positions on the paper."""

    first: date
    last: date
    low: int
    high: int
    step: int

    @classmethod
    def over(cls, days: Sequence[date], values: Sequence[float]) -> _Scale:
        low, high = min(0.0, *values), max(1.0, *values)
        step = next((s for s in _STEPS if (high - low) / s <= 7), _STEPS[-1])
        return cls(days[0], days[-1], floor(low / step) * step, ceil(high / step) * step, step)

    @property
    def day_width(self) -> float:
        return (_RIGHT - _LEFT) / ((self.last - self.first).days + 1)

    def x(self, day: date) -> float:
        """The horizontal middle of a day."""
        return round(_LEFT + ((day - self.first).days + 0.5) * self.day_width, 1)

    def y(self, value: float) -> float:
        return round(_BOTTOM - (value - self.low) / (self.high - self.low) * (_BOTTOM - _TOP), 1)

    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]


def _background(scale: _Scale, marks: Sequence[Mark]) -> list[str]:
    marked = {mark.day for mark in marks}
    shapes: list[str] = []
    for day in scale.days():
        kind = "mark" if day in marked else "weekend" if day.weekday() >= 5 else None
        if kind is not None:
            left = round(scale.x(day) - scale.day_width / 2, 1)
            shapes.append(
                f'<rect class="{kind}" x="{left}" y="{_TOP}" width="{scale.day_width:.1f}" height="{_BOTTOM - _TOP}"/>'
            )
    return shapes


def _axes(scale: _Scale, unit: str) -> list[str]:
    shapes: list[str] = []
    for value in range(scale.low, scale.high + 1, scale.step):
        y = scale.y(value)
        shapes.append(
            f'<line class="{"zero" if value == 0 else "grid"}" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
        )
        shapes.append(
            f'<text class="tick" text-anchor="end" x="{_LEFT - 9}" y="{y + 4:.1f}">{_signed(value)}</text>'
        )
    shapes.append(f'<text class="tick" x="{_LEFT - 40}" y="{_TOP - 14}">{escape(unit)}</text>')
    for day in scale.days():
        if day.weekday() == 0 or day == scale.first:
            x = scale.x(day)
            shapes.append(f'<line class="zero" x1="{x}" x2="{x}" y1="{_BOTTOM}" y2="{_BOTTOM + 5}"/>')
            shapes.append(
                f'<text class="tick" text-anchor="middle" x="{x}" y="{_BOTTOM + 21}">{_named(day)}</text>'
            )
    shapes.append(
        f'<text class="tick" text-anchor="end" x="{_RIGHT}" y="{_BOTTOM + 46}">shaded: weekends, worst days</text>'
    )
    return shapes


def _lines(scale: _Scale, series: Mapping[str, Points]) -> list[str]:
    shapes: list[str] = []
    for number, (name, points) in enumerate(series.items()):
        places = [(scale.x(day), scale.y(value)) for day, value in points]
        path = " ".join(f"{'M' if at == 0 else 'L'}{x} {y}" for at, (x, y) in enumerate(places))
        shapes.append(f'<path class="line l{number}" d="{path}"/>')
        shapes.extend(
            f'<circle class="dot d{number}" cx="{x}" cy="{y}" r="2.6">'
            f"<title>{escape(name)}, {_named(day)}: {value:.1f}</title></circle>"
            for (x, y), (day, value) in zip(places, points, strict=True)
        )
    return shapes


def _mark_texts(scale: _Scale, marks: Sequence[Mark]) -> list[str]:
    """The texts of marks above their days, a row higher if they would run into a neighbour, and never over the edge."""
    shapes: list[str] = []
    taken: list[float] = []
    for mark in sorted(marks, key=lambda mark: mark.day):
        width = len(mark.text) * _LETTER
        left = min(max(scale.x(mark.day) - width / 2, _LEFT), _RIGHT - width)
        row = next((n for n, end in enumerate(taken) if end + _LETTER <= left), len(taken))
        taken[row:] = [left + width, *taken[row + 1 :]]
        x, y = left + width / 2, _TOP - 7 - row * 16
        shapes.append(
            f'<text class="marked" text-anchor="middle" x="{x:.1f}" y="{y}">{escape(mark.text)}</text>'
        )
    return shapes


def _legend(names: Sequence[str]) -> list[str]:
    shapes: list[str] = []
    for number, name in enumerate(names):
        x = _LEFT + number * 86
        y = _BOTTOM + 42
        shapes.append(f'<line class="line l{number}" x1="{x}" x2="{x + 30}" y1="{y}" y2="{y}"/>')
        shapes.append(f'<text class="name" x="{x + 38}" y="{y + 4.5}">{escape(name)}</text>')
    return shapes


def _signed(value: int) -> str:
    return f"−{-value}" if value < 0 else str(value)


def _named(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"
