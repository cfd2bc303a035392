"""Pictures of runs: event time to the right, processing time upwards, as the Dataflow paper draws them.

A record is a dot at its event time and arrival; a late one that no `.late` stream took is a cross. The line is the
watermark at each moment. A box is a result: as wide as its window, from the window's first record, or the result
before, up to the moment at which the result went out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final

from streamflow.testing.job import TestJob
from streamflow.time.timestamps import to_micros

__all__ = ["Drawing"]

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 34, 42
_STEPS: Final = (1, 2, 5, 10, 20, 30, 60)
_MOST_TICKS: Final = 8
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#6e7781}"
    ".title{font-weight:600}"
    ".grid{stroke:#8b949e;stroke-opacity:.25}"
    ".pane{fill:#0969da;fill-opacity:.1;stroke:#0969da}"
    ".result{fill:#0969da;font-weight:600}"
    ".watermark{fill:none;stroke:#cf222e;stroke-width:2}"
    ".record{fill:#6e7781}"
    ".late{stroke:#cf222e;stroke-width:2}"
)


@dataclass
class Drawing:
    """A picture of a job that runs under `TestJob(job, watermarks="job")`, in seconds since 1970 and since its start.

    `label` gives the text at a record, `result` the text in a result's box; both get the row. `time` is the column
    of a record's event time, in seconds. Raises what the job raises.

    >>> import streamflow as sf
    >>> job = sf.Job("totals")
    >>> read = job.read(sf.MemorySource([{"ts": 0, "v": 0}]), event_time=sf.epoch("ts", unit="s"))
    >>> out = read.window(sf.tumbling("10s")).aggregate(total=sf.sum("v")).collect()
    >>> with TestJob(job, watermarks="job") as t:
    ...     drawing = Drawing(t, "Sums", label=lambda row: row["v"], result=lambda row: row["total"])
    ...     drawing.record(2, {"ts": 1, "v": 5}).record(14, {"ts": 13, "v": 1}).until(15)
    Drawing(title='Sums')
    >>> [pane.text for pane in drawing.panes]
    ['5']
    """

    job: TestJob = field(repr=False)
    title: str
    label: Callable[[Mapping[str, Any]], object] = field(repr=False)
    result: Callable[[Mapping[str, Any]], object] = field(repr=False)
    time: str = field(default="ts", repr=False)

    def __post_init__(self) -> None:
        self.panes: list[Pane] = []
        self._dots: list[_Dot] = []
        self._watermarks: list[tuple[float, float]] = []
        self._began = self.job.clock.now()

    def record(self, at: float, row: Mapping[str, Any], *, split: int = 0) -> Drawing:
        """Adds a record `at` seconds after the start."""
        self.until(at)
        dropped = self.job.metric("streamflow_late_records_dropped_total")
        self.job.source().push([row], split=split)
        late = self.job.metric("streamflow_late_records_dropped_total") > dropped
        self._dots.append(_Dot(float(row[self.time]), self._now, str(self.label(row)), late))
        return self._look()

    def until(self, at: float) -> Drawing:
        """Lets time pass up to `at` seconds after the start."""
        missing = timedelta(seconds=at - self._now)
        if missing > timedelta(0):
            self.job.advance_processing_time(missing)
        return self._look()

    def svg(self) -> str:
        """The picture, the same for the same run."""
        times = [*(dot.time for dot in self._dots), *(t for p in self.panes for t in (p.start, p.end))]
        moments = [0.0, *(dot.at for dot in self._dots), *(pane.at for pane in self.panes), self._now]
        x = _Axis(min(times), max(times), _LEFT, _WIDTH - _RIGHT)
        y = _Axis(0.0, max(moments), _HEIGHT - _BOTTOM, _TOP)
        shapes = [
            *(f'<path class="grid" d="M{x(t)} {_TOP}V{_HEIGHT - _BOTTOM}"/>' for t in x.ticks),
            *(f'<path class="grid" d="M{_LEFT} {y(t)}H{_WIDTH - _RIGHT}"/>' for t in y.ticks),
            *(_text(x(t), _HEIGHT - _BOTTOM + 16, f"{t:g}") for t in x.ticks),
            *(_text(_LEFT - 14, y(t) + 4, f"{t:g}") for t in y.ticks),
            *(pane.shape(x, y) for pane in self.panes),
            f'<path class="watermark" d="{self._line(x, y)}"/>',
            *(dot.shape(x, y) for dot in self._dots),
            *(_text((x(p.start) + x(p.end)) / 2, y(p.at) + 14, p.text, "result") for p in self.panes),
            _text(_WIDTH / 2, 18, self.title, "title"),
            _text(_WIDTH / 2, _HEIGHT - 8, "event time → (processing time ↑, watermark red), in seconds"),
        ]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"><style>{_STYLE}</style>'
        return "\n".join([head, *shapes, "</svg>", ""])

    @property
    def _now(self) -> float:
        return (self.job.clock.now() - self._began) / 1e6

    def _look(self) -> Drawing:
        """Notes the watermark, and new results."""
        watermark = self.job.status().watermark
        if watermark is not None:
            self._watermarks.append((watermark / 1e6, self._now))
        for row in self.job.output().new_rows():
            start, end = _seconds(row["window_start"]), _seconds(row["window_end"])
            before = [pane.at for pane in self.panes if (pane.start, pane.end) == (start, end)]
            came = [dot.at for dot in self._dots if start <= dot.time < end and not dot.late]
            since = max(before) if before else min(came, default=self._now)
            self.panes.append(Pane(start, end, since, self._now, str(self.result(row))))
        return self

    def _line(self, x: _Axis, y: _Axis) -> str:
        """The watermark as steps: it stays where it is until an element moves it."""
        (first, at), *others = [(x.inside(time), at) for time, at in self._watermarks]
        steps = "".join(f"V{y(at)}H{x(time)}" for time, at in others)
        return f"M{x(first)} {y(at)}{steps}V{y(self._now)}"


@dataclass(frozen=True)
class Pane:
    """A result: the window's bounds, the time from which it was gathered and the time at which it went out, all in
    seconds."""

    start: float
    end: float
    since: float
    at: float
    text: str

    def shape(self, x: _Axis, y: _Axis) -> str:
        left, right, low, high = x(self.start), x(self.end), y(self.since), y(self.at)
        return f'<path class="pane" d="M{left} {low}H{right}V{high}H{left}Z"/>'


@dataclass(frozen=True)
class _Dot:
    time: float
    at: float
    text: str
    late: bool

    def shape(self, x: _Axis, y: _Axis) -> str:
        across, up = x(self.time), y(self.at)
        arms = "m-4 -4l8 8m0 -8l-8 8"
        mark = (
            f'<path class="late" d="M{across} {up}{arms}"/>'
            if self.late
            else f'<circle class="record" cx="{across}" cy="{up}" r="4"/>'
        )
        return mark + _text(across + 8, up - 5, self.text)


class _Axis:
    """A scale from seconds between `low` and `high` to positions in the picture."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low, self._high = low, max(high, low + 1)
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)

    def inside(self, value: float) -> float:
        return min(max(value, self._low), self._high)

    @property
    def ticks(self) -> list[float]:
        span = self._high - self._low
        step = next((each for each in _STEPS if span / each <= _MOST_TICKS), span / _MOST_TICKS)
        first = -(-self._low // step)
        return [n * step for n in range(int(first), int(self._high // step) + 1)]


def _text(x: float, y: float, text: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="middle">{escape(text)}</text>'


def _seconds(moment: datetime) -> float:
    return to_micros(moment) / 1e6
