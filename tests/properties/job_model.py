"""A model for whole jobs: windows by their definition, one record at a time, in plain Python; and the ways in which
one job can be written and run. Times are microseconds.

The models know nothing of slices, partials or columns. They are told the batches in which records arrive and the
watermark after each, as `arrivals` derives them from the rules (SEMANTICS §3), and give every pane and late record.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow.runtime.exchange import channel
from streamflow.windows.assigners import Assigner, Cumulative, GlobalWindow, Session, Sliding, Tumbling

Accumulation = Literal["accumulating", "discarding", "retracting"]
Window: TypeAlias = tuple[int, int]

MIN, MAX = -(2**63) + 1, 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """One record."""

    key: str
    ts: int
    value: int


class Pane(NamedTuple):
    """One result: the number of records and the sum of their values."""

    change: str
    key: str
    start: int
    end: int
    n: int
    total: int


@dataclass(frozen=True)
class Way:
    """One way to write and run a job. `rows`: of a source's batch; `slices`: the runtime's own batch size, of which a
    micro-batch is four. `one_reader`: the source has one subtask whatever the parallelism."""

    mode: Literal["streaming", "micro-batch", "batch"] = "streaming"
    parallelism: int = 1
    rows: int = 1_000
    slices: int = 1
    layout: Literal["columns", "functions", "objects"] = "columns"
    one_reader: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        # Epochs by the clock would make the watermark of a micro-batch a matter of how fast the machine is.
        return {
            "mode": self.mode,
            "parallelism": self.parallelism,
            "batch_rows": self.slices,
            "micro_batch_interval": "1h",
            "state_backend": "memory",
        }


def ways(*, mode: str | None = None) -> st.SearchStrategy[Way]:
    """All ways, the simplest first; or those of one mode."""
    modes = ["streaming", "batch", "micro-batch"] if mode is None else [mode]
    return st.builds(
        Way,
        mode=st.sampled_from(modes),
        parallelism=st.integers(1, 3),
        rows=st.integers(1, 12),
        slices=st.integers(1, 3),
        layout=st.sampled_from(["columns", "functions", "objects"]),
    )


def certain_ways() -> st.SearchStrategy[Way]:
    """Ways in which it is certain what is late: between records and windows is one channel. With more it depends on
    which of them is faster how far the watermark has come when a record arrives."""
    return ways().map(
        lambda way: replace(
            way, one_reader=True, parallelism=way.parallelism if way.layout == "columns" else 1
        )
    )


@contextmanager
def certain_batches(*, certain: bool) -> Generator[None]:
    """Leaves every batch by itself: how many wait, and are then read as one, depends on the machine, and there is a
    pane for each batch of late records."""
    with pytest.MonkeyPatch.context() as patch:
        if certain:
            patch.setattr(channel, "_SMALL", 0)
            patch.setattr(channel, "_CROWDED", MAX)
        yield


def events(*, least: int = 0, most: int = 25, span: int = 25) -> st.SearchStrategy[list[Event]]:
    """Records of a few keys, so close in time that distances of just a gap or a bound happen; some before 1970."""
    event = st.builds(Event, st.sampled_from("aab"), st.integers(-span, span), st.integers(-9, 9))
    return st.lists(event, min_size=least, max_size=most)


def assigners() -> st.SearchStrategy[Assigner]:
    """Windows of all kinds, small enough that records meet in them; slides longer than the size among them."""
    size = st.integers(1, 30)
    offset = st.integers(-4, 4)
    tumbling = st.tuples(size, offset).filter(lambda p: abs(p[1]) < p[0]).map(lambda p: Tumbling(*p))
    sliding = st.tuples(size, size, offset).filter(lambda p: abs(p[2]) < p[1]).map(lambda p: Sliding(*p))
    steps = st.tuples(st.integers(1, 8), st.integers(1, 4), offset)
    cumulative = steps.filter(lambda p: abs(p[2]) < p[0] * p[1]).map(
        lambda p: Cumulative(p[0] * p[1], p[0], p[2])
    )
    return st.one_of(tumbling, sliding, cumulative, st.builds(Session, st.integers(1, 10)))


@st.composite
def disordered(draw: st.DrawFn, bound: int, **sizes: int) -> list[Event]:
    """Records in an order in which none comes more than `bound` behind the latest one before it."""
    records = draw(events(**sizes))
    jitter = st.one_of(st.sampled_from([0, bound]), st.integers(0, bound))
    jitters = draw(st.lists(jitter, min_size=len(records), max_size=len(records)))
    return [e for _, e in sorted(zip(jitters, records, strict=True), key=lambda pair: pair[0] + pair[1].ts)]


def share(part: int) -> settings:
    """One example for `part` of the profile's: a whole job takes tens of milliseconds."""
    return settings(max_examples=max(10, settings().max_examples // part))


# Running a job.


@dataclass
class Outcome:
    """The outcome of one run."""

    panes: list[Pane]
    late: list[Event]
    result: sf.JobResult


def read(job: sf.Job, records: Sequence[Event], way: Way, *, bound: int = 0) -> sf.Stream:
    """The records as a job reads them, in the layout that is asked for."""
    stream = _read(job, records, way, bound)
    return stream.parallel(1) if way.one_reader and way.layout == "columns" else stream


def _read(job: sf.Job, records: Sequence[Event], way: Way, bound: int) -> sf.Stream:
    watermark = sf.bounded_disorder(timedelta(microseconds=bound))
    rows = [event._asdict() for event in records]
    if way.layout == "objects":
        source = sf.MemorySource(rows, batch_rows=way.rows, schema=sf.OBJECTS)
        stream = job.read(source, event_time=sf.epoch("ts", unit="us"), watermark=watermark)
        return stream.map(lambda row: dict(row)).filter(lambda row: row["key"] is not None)
    frame = pl.DataFrame(rows, schema={"key": pl.String, "ts": pl.Int64, "value": pl.Int64})
    source = sf.MemorySource(frame, batch_rows=way.rows)
    if way.layout == "columns":
        return job.read(source, event_time=sf.epoch("ts", unit="us"), watermark=watermark)
    return job.read(
        source, event_time=lambda row: EPOCH + timedelta(microseconds=row["ts"]), watermark=watermark
    )


def keyed(stream: sf.Stream, way: Way) -> sf.KeyedStream:
    """Keyed by a column, a function, or a field of an object."""
    return stream.key_by(lambda row: row["key"]) if way.layout == "functions" else stream.key_by("key")


def value_of(way: Way) -> Any:
    """The aggregates' input, likewise."""
    return (lambda row: row["value"]) if way.layout == "functions" else "value"


def run_windows(
    records: Sequence[Event],
    assigner: Assigner,
    way: Way,
    *,
    bound: int = 0,
    lateness: int = 0,
    accumulation: Accumulation = "accumulating",
    late: bool = False,
) -> Outcome:
    """Count and sum by key and window, by a whole job."""
    job = sf.Job("windows")
    windowed = keyed(read(job, records, way, bound=bound), way).window(
        assigner, allowed_lateness=timedelta(microseconds=lateness), accumulation=accumulation
    )
    results = windowed.aggregate(n=sf.count(), total=sf.sum(value_of(way)))
    out = results.collect()
    missed = results.late.collect() if late else None
    with certain_batches(certain=way.one_reader):
        result = job.run(**way.settings)
    rows = [] if missed is None else missed.rows()
    return Outcome(
        panes=panes_of(out.frame()),
        late=[Event(row["key"], row["ts"], row["value"]) for row in rows],
        result=result,
    )


def panes_of(frame: pl.DataFrame) -> list[Pane]:
    """Results in their order; those of a global window have the bounds of time."""
    change = "change" if "change" in frame.columns else pl.lit("insert").alias("change")
    bounds = (
        [pl.col("window_start").to_physical(), pl.col("window_end").to_physical()]
        if "window_start" in frame.columns
        else [pl.lit(MIN).alias("window_start"), pl.lit(MAX).alias("window_end")]
    )
    chosen = frame.select(change, "key", *bounds, "n", "total")
    return [Pane(*row) for row in chosen.with_columns(pl.col("change").cast(pl.String)).rows()]


# What it has to give.


def arrivals(records: Sequence[Event], way: Way, bound: int) -> Iterator[tuple[Sequence[Event], int | None]]:
    """The batches that a source makes of the records, and the watermark that follows each, if one does."""
    latest, in_slice = MIN, 0
    for start in range(0, len(records), way.rows):
        batch = records[start : start + way.rows]
        latest = max(latest, *(event.ts for event in batch))
        in_slice += len(batch)
        if way.mode == "streaming" or (way.mode == "micro-batch" and in_slice >= 4 * way.slices):
            in_slice = 0
            yield batch, latest - bound - 1
        else:
            yield batch, None
    yield (), MAX


def windows_of(ts: int, assigner: Tumbling | Sliding | Cumulative) -> list[Window]:
    """Every window that holds a time, by trying all starts and ends (SEMANTICS §2)."""
    if isinstance(assigner, Cumulative):
        begin = next(
            s for s in range(ts, ts - assigner.size, -1) if (s - assigner.offset) % assigner.size == 0
        )
        ends = range(begin + assigner.step, begin + assigner.size + 1, assigner.step)
        return [(begin, end) for end in ends if ts < end]
    every = assigner.every if isinstance(assigner, Sliding) else assigner.size
    starts = range(ts - assigner.size + 1, ts + 1)
    return [(s, s + assigner.size) for s in starts if (s - assigner.offset) % every == 0]


def expected(
    records: Sequence[Event],
    assigner: Assigner,
    way: Way,
    *,
    bound: int = 0,
    lateness: int = 0,
    accumulation: Accumulation = "accumulating",
) -> Model:
    """The model after all records and the end of input."""
    model: Model
    match assigner:
        case Session(gap=gap):
            model = Sessions(lateness, accumulation, gap)
        case GlobalWindow():
            model = OneWindow(lateness, accumulation)
        case Tumbling() | Sliding() | Cumulative():
            model = Fixed(lateness, accumulation, assigner)
        case _:
            raise AssertionError(assigner)
    for batch, watermark in arrivals(records, way, bound):
        model.batch(batch)
        if watermark is not None:
            model.advance(max(watermark, model.watermark))
    return model


@dataclass
class Model:
    """`panes` in the order of firing, `late` records, and `nowhere`: those between two windows."""

    lateness: int
    accumulation: Accumulation
    watermark: int = field(default=MIN, init=False)
    panes: list[Pane] = field(default_factory=list[Pane], init=False)
    late: list[Event] = field(default_factory=list[Event], init=False)
    nowhere: list[Event] = field(default_factory=list[Event], init=False)

    def batch(self, records: Sequence[Event]) -> None:
        """Records arrive together."""
        raise AssertionError

    def advance(self, watermark: int) -> None:
        """Event time moves."""
        raise AssertionError

    def over(self, end: int) -> bool:
        """Whether a window that ends there is past its clean-up."""
        return end - 1 + self.lateness <= self.watermark

    def due(self, end: int) -> bool:
        """Whether the watermark has passed the last moment of a window that ends there."""
        return end - 1 <= self.watermark

    def put_out(self, window: Window, records: Sequence[Event], replaced: dict[Window, Pane]) -> Pane:
        """One pane; with retractions, after what it replaces."""
        key = records[0].key
        pane = Pane("insert", key, *window, len(records), sum(event.value for event in records))
        if self.accumulation == "retracting":
            for bounds, old in replaced.items():
                kind = "update_before" if bounds == window else "delete"
                self.panes.append(old._replace(change=kind))
            if window in replaced:
                pane = pane._replace(change="update_after")
        self.panes.append(pane)
        return pane


@dataclass
class Fixed(Model):
    """Tumbling, sliding and cumulative windows."""

    assigner: Tumbling | Sliding | Cumulative
    held: dict[tuple[str, Window], list[Event]] = field(default_factory=lambda: defaultdict(list), init=False)
    said: dict[tuple[str, Window], tuple[Pane, int]] = field(default_factory=dict, init=False)

    def batch(self, records: Sequence[Event]) -> None:
        touched: dict[tuple[str, Window], None] = {}
        for event in records:
            windows = windows_of(event.ts, self.assigner)
            open_ones = [window for window in windows if not self.over(window[1])]
            if not windows:
                self.nowhere.append(event)
            elif not open_ones:
                self.late.append(event)
            for window in open_ones:
                self.held[event.key, window].append(event)
                touched[event.key, window] = None
        for place in touched:
            if self.due(place[1][1]):
                self.fire(place)

    def advance(self, watermark: int) -> None:
        before, self.watermark = self.watermark, watermark
        for place in list(self.held):
            if self.due(place[1][1]) and place[1][1] - 1 > before:
                self.fire(place)
            if self.over(place[1][1]):
                del self.held[place]

    def fire(self, place: tuple[str, Window]) -> None:
        records, window = self.held[place], place[1]
        old, count = self.said.get(place, (None, 0))
        new = records[count:] if self.accumulation == "discarding" else records
        pane = self.put_out(window, new, {} if old is None else {window: old})
        self.said[place] = (pane, len(records))


@dataclass
class OneSession:
    """A session: what it has put out (`said`), what not yet, and the panes that stand for it."""

    first: int
    last: int
    said: list[Event] = field(default_factory=list[Event])
    unsaid: list[Event] = field(default_factory=list[Event])
    fired: bool = False
    standing: dict[Window, Pane] = field(default_factory=dict)


@dataclass
class Sessions(Model):
    """Session windows: an event spans [t, t + gap), spans that intersect are one session (SEMANTICS §2)."""

    gap: int
    held: dict[str, list[OneSession]] = field(default_factory=lambda: defaultdict(list), init=False)

    def batch(self, records: Sequence[Event]) -> None:
        fresh: dict[str, list[Event]] = defaultdict(list)
        for event in records:
            fresh[event.key].append(event)
        for key, new in fresh.items():
            pieces = self.held[key] + [OneSession(e.ts, e.ts, unsaid=[e]) for e in new]
            merged: list[OneSession] = []
            for piece in sorted(pieces, key=lambda piece: piece.first):
                if merged and piece.first - merged[-1].last < self.gap:
                    into = merged[-1]
                    into.last = max(into.last, piece.last)
                    into.said += piece.said
                    into.unsaid += piece.unsaid
                    into.standing |= piece.standing
                    into.fired = False
                else:
                    merged.append(piece)
            # Lateness is judged after the merge.
            self.late += [e for one in merged if self.over(one.last + self.gap) for e in one.unsaid]
            self.held[key] = [one for one in merged if not self.over(one.last + self.gap)]
            self.fire(key)

    def advance(self, watermark: int) -> None:
        self.watermark = watermark
        for key in self.held:
            self.fire(key)
            self.held[key] = [one for one in self.held[key] if not self.over(one.last + self.gap)]

    def fire(self, key: str) -> None:
        for one in self.held[key]:
            if one.fired or not self.due(one.last + self.gap):
                continue
            records = one.unsaid if self.accumulation == "discarding" else one.said + one.unsaid
            window = (one.first, one.last + self.gap)
            pane = self.put_out(window, records, one.standing)
            one.said, one.unsaid = one.said + one.unsaid, []
            one.standing, one.fired = {window: pane}, True


@dataclass
class OneWindow(Model):
    """The global window: everything, once, at the end."""

    held: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list), init=False)

    def batch(self, records: Sequence[Event]) -> None:
        for event in records:
            self.held[event.key].append(event)

    def advance(self, watermark: int) -> None:
        if watermark == MAX:
            for key in list(self.held):
                self.put_out((MIN, MAX), self.held.pop(key), {})


# Reading changes.


def folded(panes: Sequence[Pane]) -> dict[tuple[str, int, int], tuple[int, int]]:
    """The rows after all changes; asserts that each retraction takes back exactly an existing row."""
    standing: dict[tuple[str, int, int], tuple[int, int]] = {}
    pending: set[tuple[str, int, int]] = set()
    for change, key, start, end, n, total in panes:
        place = (key, start, end)
        match change:
            case "insert":
                assert place not in standing, f"{place} is inserted twice"
                standing[place] = (n, total)
            case "update_before":
                assert standing[place] == (n, total), f"{place} retracts what did not stand"
                pending.add(place)
            case "update_after":
                assert place in pending, f"{place} is updated without a retraction"
                pending.discard(place)
                standing[place] = (n, total)
            case _:
                assert standing.pop(place) == (n, total), f"{place} deletes what did not stand"
    assert not pending, "a retraction without a new pane"
    return standing


def same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether two lists are the same but for their order."""
    return Counter(left) == Counter(right)
