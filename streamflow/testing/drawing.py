"""Pictures of runs: windows in event time and processing time, as the Dataflow paper draws them, joins in lanes, and
patterns in tracks.

In `Drawing` event time goes to the right, processing time upwards. A record is a dot at its event time and arrival; a
late one that no `.late` stream took is a cross. The line is the watermark at each moment. A box is a result: as wide
as its window, from the window's first record, or the result before, up to the moment at which the result went out. A
result without a window is a line at its own event time instead; one of the global window is as wide as the picture.

In `Lanes` each input of a join has a lane of event time, and the results are between them. In `Tracks` the events of a
pattern stand above, and each match has a track below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from html import escape
from math import inf, isfinite
from typing import Any, Final

from streamflow.testing.job import TestJob
from streamflow.time.timestamps import to_micros

__all__ = ["Drawing", "Lanes", "Scale", "Tracks"]

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 24, 34, 42
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
    ".pair{stroke:#0969da;stroke-opacity:.6}"
    ".alone{fill:#fff;stroke:#0969da}"
)
_TRACKS_STYLE: Final = ".missed{stroke:#cf222e;stroke-dasharray:3}"
_NAMES, _FIRST_TRACK, _TRACK = 180, 86, 20
_LANES: Final = (80.0, 230.0)
_BETWEEN: Final = 155.0
_CROSS: Final = "m-4 -4l8 8m0 -8l-8 8"


@dataclass(frozen=True)
class Scale:
    """The scale of event time: the seconds since 1970 of its zero, those of its unit, and the names of both axes."""

    zero: float = 0.0
    unit: float = 1.0
    axes: str = "event time → (processing time ↑, watermark red), in seconds"

    def shown(self, seconds: float) -> str:
        """The number at a tick."""
        return f"{(seconds - self.zero) / self.unit:g}"


SECONDS: Final = Scale()


@dataclass
class Drawing:
    """A picture of a job that runs under `TestJob(job, watermarks="job")`, in seconds since 1970 and since its start.

    `label` gives the text at a record, `result` the text in a result's box; both get the row. `time` is the column
    of a record's event time, and of a result's if it has no window, in seconds. `scale` is what the axis of event time
    shows. Raises what the job raises.

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
    scale: Scale = field(default=SECONDS, repr=False)

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
        """Lets time pass up to `at` seconds after the start, second by second."""
        while self._now < at:
            self.job.advance_processing_time(timedelta(seconds=min(at, int(self._now) + 1) - self._now))
            self._look()
        return self

    def svg(self) -> str:
        """The picture, the same for the same run."""
        bounds = [time for pane in self.panes for time in (pane.start, pane.end) if isfinite(time)]
        times = [*(dot.time for dot in self._dots), *bounds]
        moments = [0.0, *(dot.at for dot in self._dots), *(pane.at for pane in self.panes), self._now]
        x = _Axis(min(times), max(times), _LEFT, _WIDTH - _RIGHT, self.scale)
        y = _Axis(0.0, max(moments), _HEIGHT - _BOTTOM, _TOP)
        shapes = [
            *(f'<path class="grid" d="M{x(t)} {_TOP}V{_HEIGHT - _BOTTOM}"/>' for t in x.ticks),
            *(f'<path class="grid" d="M{_LEFT} {y(t)}H{_WIDTH - _RIGHT}"/>' for t in y.ticks),
            *(_text(x(t), _HEIGHT - _BOTTOM + 16, self.scale.shown(t)) for t in x.ticks),
            *(_text(_LEFT - 14, y(t) + 4, f"{t:g}") for t in y.ticks),
            *(pane.shape(x, y) for pane in self.panes),
            f'<path class="watermark" d="{self._line(x, y)}"/>',
            *(dot.shape(x, y) for dot in self._dots),
            *(pane.label(x, y) for pane in self.panes),
            _text(_WIDTH / 2, 18, self.title, "title"),
            _text(_WIDTH / 2, _HEIGHT - 8, self.scale.axes),
        ]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"><style>{_STYLE}</style>'
        return "\n".join([head, *shapes, "</svg>", ""])

    @property
    def _now(self) -> float:
        return (self.job.clock.now() - self._began) / 1e6

    def _look(self) -> Drawing:
        """Notes the watermark, and new results."""
        watermark = self.job.status().watermark
        if watermark is not None and (not self._watermarks or watermark / 1e6 > self._watermarks[-1][0]):
            self._watermarks.append((watermark / 1e6, self._now))
        for row in self.job.output().new_rows():
            start, end = self._bounds(row)
            text = str(self.result(row))
            if self.panes and (self.panes[-1].start, self.panes[-1].end, self.panes[-1].at) == (
                start,
                end,
                self._now,
            ):
                # Such as a deletion, and the insert in its place.
                text = f"{self.panes[-1].text}, {text}"
                self.panes[-1] = replace(self.panes[-1], text=text)
                continue
            before = [pane.at for pane in self.panes if (pane.start, pane.end) == (start, end)]
            came = [
                dot.at for dot in self._dots if start <= dot.time < max(end, start + 1e-6) and not dot.late
            ]
            since = max(before) if before else min(came, default=self._now)
            self.panes.append(Pane(start, end, since, self._now, text))
        return self

    def _bounds(self, row: Mapping[str, Any]) -> tuple[float, float]:
        if "window_start" in row:
            return _seconds(row["window_start"]), _seconds(row["window_end"])
        if self.time not in row:
            return -inf, inf
        return float(row[self.time]), float(row[self.time])

    def _line(self, x: _Axis, y: _Axis) -> str:
        """The watermark as steps: it stays where it is until an element moves it."""
        (first, at), *others = self._watermarks
        steps = "".join(f"V{y(at)}H{x(time)}" for time, at in others)
        return f"M{x(first)} {y(at)}{steps}V{y(self._now)}"


@dataclass
class Lanes:
    """A picture of a join that runs under `TestJob(job, watermarks="job")`: the first of `inputs`, the names of its
    sources, above, the other below, results between them.

    `label` gives the text at a record; `pair` gives the event times of the two records that a result is made of, in
    seconds, or None. `time` is the column of a record's event time, in seconds. A result of both is a dot; of one
    alone a circle, with the second at which it came. A cross is a result that is taken back.
    """

    job: TestJob = field(repr=False)
    title: str
    inputs: tuple[str, str]
    label: Callable[[Mapping[str, Any]], object] = field(repr=False)
    pair: Callable[[Mapping[str, Any]], tuple[float | None, float | None]] = field(repr=False)
    time: str = field(default="ts", repr=False)

    def __post_init__(self) -> None:
        self.results: list[tuple[float | None, float | None, float, bool]] = []
        """The two times of each result, the second at which it came, and whether it is taken back."""
        self._dots: list[tuple[int, float, str]] = []
        self._began = self.job.clock.now()

    def record(self, at: float, side: int, row: Mapping[str, Any]) -> Lanes:
        """Adds a record of one input `at` seconds after the start."""
        self.until(at)
        self.job.source(self.inputs[side]).push([row])
        self._dots.append((side, float(row[self.time]), str(self.label(row))))
        return self._look(at)

    def known(self, side: int, row: Mapping[str, Any]) -> Lanes:
        """Adds a row that the job has from the start, such as that of a frame."""
        self._dots.append((side, float(row[self.time]), str(self.label(row))))
        return self

    def until(self, at: float) -> Lanes:
        """Lets time pass up to `at` seconds after the start."""
        missing = timedelta(seconds=at) - timedelta(microseconds=self.job.clock.now() - self._began)
        if missing > timedelta(0):
            self.job.advance_processing_time(missing)
        return self._look(at)

    def end(self, at: float) -> Lanes:
        """Ends both inputs."""
        self.until(at)
        self.job.finish()
        return self._look(at)

    def svg(self) -> str:
        """The picture, the same for the same run."""
        times = [time for _, time, _ in self._dots]
        x = _Axis(min(times), max(times), _LEFT + 30, _WIDTH - 2 * _RIGHT)
        _, bottom = _LANES
        shapes = [
            *(f'<path class="grid" d="M{x(t)} {_TOP}V{bottom + 24}"/>' for t in x.ticks),
            *(f'<path class="grid" d="M{_LEFT} {lane}H{_WIDTH - _RIGHT}"/>' for lane in _LANES),
            *(_text(x(t), bottom + 40, f"{t:g}") for t in x.ticks),
            *(_text(_LEFT - 8, lane + 4, name) for lane, name in zip(_LANES, self.inputs, strict=True)),
            *(self._result(x, *result) for result in self.results),
            *(
                f'<circle class="record" cx="{x(time)}" cy="{_LANES[side]}" r="4"/>'
                + _text(x(time), _LANES[side] + (18 if side else -10), text)
                for side, time, text in self._dots
            ),
            _text(_WIDTH / 2, 18, self.title, "title"),
            _text(_WIDTH / 2, bottom + 60, "event time, in seconds"),
        ]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 300"><style>{_STYLE}</style>'
        return "\n".join([head, *shapes, "</svg>", ""])

    def _look(self, at: float) -> Lanes:
        for row in self.job.output().new_rows():
            self.results.append((*self.pair(row), at, row.get("change") in ("delete", "update_before")))
        return self

    def _result(self, x: _Axis, left: float | None, right: float | None, at: float, back: bool) -> str:
        times = [time for time in (left, right) if time is not None]
        across = x(sum(times) / len(times))
        if back:
            label = _text(across, _BETWEEN + 34, f"until {at:g} s")
            return f'<path class="late" d="M{across} {_BETWEEN}{_CROSS}"/>{label}'
        lines = "".join(
            f'<path class="pair" d="M{x(time)} {lane}L{across} {_BETWEEN}"/>'
            for time, lane in zip((left, right), _LANES, strict=True)
            if time is not None
        )
        if len(times) == 2:
            return lines + f'<circle class="result" cx="{across}" cy="{_BETWEEN}" r="4"/>'
        mark = f'<circle class="alone" cx="{across}" cy="{_BETWEEN}" r="4"/>'
        return lines + mark + _text(across, _BETWEEN + 18, f"after {at:g} s")


@dataclass
class Tracks:
    """A picture of matches: the events of one key above, a track for each match below, under the name that is given to
    those of a pattern.

    `label` gives the text at an event, which is a row; `time` is the column of its event time, in seconds. A track has
    a dot for each event that the match took. That of a timed-out partial match is red, and ends with a cross when its
    time is over.
    """

    title: str
    events: Sequence[Mapping[str, Any]] = field(repr=False)
    label: Callable[[Mapping[str, Any]], object] = field(repr=False)
    time: str = field(default="ts", repr=False)

    def __post_init__(self) -> None:
        self.tracks: list[tuple[str, list[float], float, bool]] = []
        """The pattern's name at its first track; the times of the events; when it ends; whether it was timed out."""

    def matches(
        self, name: str, rows: Iterable[Mapping[str, Any]], timed_out: Iterable[Mapping[str, Any]] = ()
    ) -> Tracks:
        """Adds the matches of a pattern, and its timed-out partial matches, in the order of their events."""
        found = [(self._taken(row), _seconds(row["match_end"]), False) for row in rows]
        found += [(self._taken(row), _seconds(row["timed_out_at"]), True) for row in timed_out]
        if not found:
            self.tracks.append((f"{name}: none", [], 0.0, False))
        for number, (taken, at, over) in enumerate(sorted(found)):
            self.tracks.append(("" if number else name, taken, at, over))
        return self

    def svg(self) -> str:
        """The picture, the same for the same run."""
        times = [float(event[self.time]) for event in self.events]
        moments = [*times, *(at for _, taken, at, _ in self.tracks if taken)]
        x = _Axis(min(moments), max(moments), _NAMES, _WIDTH - 2 * _RIGHT)
        bottom = _FIRST_TRACK + _TRACK * len(self.tracks)
        shapes = [
            *(f'<path class="grid" d="M{x(t)} {_TOP}V{bottom}"/>' for t in times),
            *(_text(x(t), bottom + 16, f"{t:g}") for t in x.ticks),
            *(
                f'<circle class="record" cx="{x(time)}" cy="{_TOP + 24}" r="4"/>'
                + _text(x(time), _TOP + 14, str(self.label(event)))
                for time, event in zip(times, self.events, strict=True)
            ),
            *(
                self._track(x, _FIRST_TRACK + _TRACK * number, *track)
                for number, track in enumerate(self.tracks)
            ),
            _text(_WIDTH / 2, 18, self.title, "title"),
            _text(_WIDTH / 2, bottom + 34, "event time, in seconds"),
        ]
        size = f"{_WIDTH} {bottom + 42}"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"><style>{_STYLE}{_TRACKS_STYLE}</style>'
        return "\n".join([head, *shapes, "</svg>", ""])

    def _taken(self, row: Mapping[str, Any]) -> list[float]:
        events: list[Mapping[str, Any]] = []
        for value in row.values():
            events += value if isinstance(value, list) else [value] if isinstance(value, Mapping) else []
        return sorted(float(event[self.time]) for event in events)

    def _track(self, x: _Axis, y: float, name: str, taken: list[float], at: float, over: bool) -> str:
        title = f'<text x="8" y="{y + 4}">{escape(name)}</text>' if name else ""
        if not taken:
            return title
        end = x(at)
        line = f'<path class="{"missed" if over else "pair"}" d="M{x(taken[0])} {y}H{end}"/>'
        dots = "".join(
            f'<circle class="{"record" if over else "result"}" cx="{x(time)}" cy="{y}" r="4"/>'
            for time in taken
        )
        if over:
            dots += f'<path class="late" d="M{end} {y}{_CROSS}"/>'
        return title + line + dots


@dataclass(frozen=True)
class Pane:
    """A result: the window's bounds, or its own event time twice; the time from which it was gathered and the time at
    which it went out, all in seconds."""

    start: float
    end: float
    since: float
    at: float
    text: str

    def shape(self, x: _Axis, y: _Axis) -> str:
        left, right, low, high = x(self.start), x(self.end), y(self.since), y(self.at)
        if left == right:
            line = f'<path class="pair" d="M{left} {low}V{high}"/>'
            return f'{line}<circle class="result" cx="{left}" cy="{high}" r="4"/>'
        return f'<path class="pane" d="M{left} {low}H{right}V{high}H{left}Z"/>'

    def label(self, x: _Axis, y: _Axis) -> str:
        left, right, high = x(self.start), x(self.end), y(self.at)
        # Beside a point, where no record has its label.
        across = left + 12 if left == right else (left + right) / 2
        return _text(across, high + 14, self.text, "result")


@dataclass(frozen=True)
class _Dot:
    time: float
    at: float
    text: str
    late: bool

    def shape(self, x: _Axis, y: _Axis) -> str:
        across, up = x(self.time), y(self.at)
        mark = (
            f'<path class="late" d="M{across} {up}{_CROSS}"/>'
            if self.late
            else f'<circle class="record" cx="{across}" cy="{up}" r="4"/>'
        )
        return mark + _text(across + 8, up - 5, self.text)


class _Axis:
    """A scale from seconds between `low` and `high` to positions in the picture; others are at its edge."""

    def __init__(self, low: float, high: float, begin: float, end: float, scale: Scale = SECONDS) -> None:
        self._low, self._high = low, max(high, low + 1)
        self._begin, self._end = begin, end
        self._scale = scale

    def __call__(self, value: float) -> float:
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)

    @property
    def ticks(self) -> list[float]:
        zero, unit = self._scale.zero, self._scale.unit
        low, high = (self._low - zero) / unit, (self._high - zero) / unit
        step = next(
            (each for each in _STEPS if (high - low) / each <= _MOST_TICKS), (high - low) / _MOST_TICKS
        )
        return [zero + n * step * unit for n in range(int(-(-low // step)), int(high // step) + 1)]


def _text(x: float, y: float, text: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="middle">{escape(text)}</text>'


def _seconds(moment: datetime) -> float:
    return to_micros(moment) / 1e6
