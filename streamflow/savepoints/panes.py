"""The panes of windows and running totals in a checkpoint as frames: a row for each key and slice, or key and session.

A pane holds partial results. If all aggregates of an operator are plain ones (count, sum, mean, min, max, first,
last, any, all, std, var) the parts of a key and slice are merged here and the columns are the values so far.
Otherwise the columns are the partials, like `mean_delay_0` and `mean_delay_1` of one aggregate, and rows of one key
and slice may come in parts: only the job knows how to merge them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.operators.aggregates.partials import COUNT, END, FIRST, LAST, LATEST, SLICE, START
from streamflow.operators.totals.retracting_totals import ROWS
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import StatePart
from streamflow.windows.aggregate import Aggregate, Slot
from streamflow.windows.kept_values import Edge
from streamflow.windows.numbers import AllTrue, AnyTrue, Count, Max, Mean, Min, Moments, Sum

__all__ = ["pane_frame"]

_PARTIAL: Final = re.compile(r"__p(\d+)_(\d+)")
_SIGNED: Final = re.compile(r"([a-z]+)\((.*)\) as (.+)")
_TIMES: Final = {
    SLICE: "slice_start",
    START: "window_start",
    END: "window_end",
    FIRST: "first_time",
    LAST: "last_time",
    LATEST: "latest_time",
}
_MERGES: Final = {FIRST: pl.col(FIRST).min(), LAST: pl.col(LAST).max(), LATEST: pl.col(LATEST).max()}
_RECORDS: Final = "records"
_VALUE: Final = "value"
_PLAIN: Final[Mapping[str, Aggregate]] = {
    "count": Count(),
    "sum": Sum(_VALUE),
    "mean": Mean(_VALUE),
    "min": Min(_VALUE),
    "max": Max(_VALUE),
    "first": Edge(_VALUE, latest=False),
    "last": Edge(_VALUE, latest=True),
    "any": AnyTrue(_VALUE),
    "all": AllTrue(_VALUE),
    "std": Moments(_VALUE, root=True),
    "var": Moments(_VALUE, root=False),
}
"""Aggregates that merge and give a value from the partial columns alone."""
_SUBTRACTED: Final = ("count(", "sum(", "mean(")
_MERGED: Final = "panes"
"""The store whose rows are merged by key and slice. Other tables have complete rows, like open sessions."""
_UNBOUNDED: Final = 1 << 62


def pane_frame(
    operator: str,
    state: str,
    keys: tuple[str, ...],
    signature: Mapping[str, Any],
    parts: Sequence[StatePart],
    max_parallelism: int,
) -> pl.DataFrame:
    """The rows of one table, from all subtasks, with those spilled to their backends."""
    owned = OwnedKeys(keys, range(max_parallelism), max_parallelism)
    store = FrameStore(
        MemoryBackend(), operator, lambda frame: frame, _UNBOUNDED, owned, state=state, replacing=True
    )
    store.restore(parts)
    frames = [store.read(pane) for pane in store.panes()]
    if not frames:
        return pl.DataFrame()
    frame = concatenated(frames)
    signed: Mapping[str, str] = signature.get("aggregates", {})
    if signature.get("changes"):
        # Of totals that take records back, what is subtracted from; the others are made of values.
        signed = {name: text for name, text in signed.items() if text.startswith(_SUBTRACTED)}
        if ROWS in frame.columns:
            frame = frame.drop(COUNT).rename({ROWS: COUNT})
    plain = [_plain(index, text, frame) for index, text in enumerate(signed.values())]
    known = [each for each in plain if each is not None]
    if len(known) == len(plain) and COUNT in frame.columns:
        if state == _MERGED:
            frame = _merged(frame, keys, known)
        frame = _values(frame, dict(zip(signed, known, strict=True)))
    frame = _named(frame, list(signed))
    by = [name for name in (*keys, *_TIMES.values()) if name in frame.columns]
    by = [name for name in by if not frame[name].dtype.is_nested()]
    return frame.sort(by, maintain_order=True, nulls_last=True) if by else frame


def _plain(index: int, text: str, frame: pl.DataFrame) -> tuple[Aggregate, Slot] | None:
    """A plain aggregate and its slot, from its text in the signature; None for any other."""
    found = _SIGNED.fullmatch(text)
    aggregate = None if found is None else _PLAIN.get(found[1])
    if found is None or aggregate is None or "ddof=" in found[2]:
        return None
    if isinstance(aggregate, Mean) and found[3] != "Float64":
        return None  # the mean of times
    slot = Slot(index)
    timed = isinstance(aggregate, Edge) and slot.column(1) in frame.columns
    return aggregate, Slot(index, time=pl.lit(0)) if timed else slot


def _merged(
    frame: pl.DataFrame, keys: Sequence[str], aggregates: Sequence[tuple[Aggregate, Slot]]
) -> pl.DataFrame:
    """The partials of each key and slice merged to one row."""
    by = [name for name in (*keys, SLICE, START, END) if name in frame.columns]
    times = [merge for name, merge in _MERGES.items() if name in frame.columns]
    merges = [merge for aggregate, slot in aggregates for merge in aggregate.merges(slot)]
    return frame.group_by(by).agg(pl.col(COUNT).sum(), *times, *merges)


def _values(frame: pl.DataFrame, aggregates: Mapping[str, tuple[Aggregate, Slot]]) -> pl.DataFrame:
    """The frame with values so far in place of the partial columns."""
    kept = [name for name in frame.columns if _PARTIAL.fullmatch(name) is None]
    values = [aggregate.value(slot).alias(name) for name, (aggregate, slot) in aggregates.items()]
    return frame.select(*kept, *values)


def _named(frame: pl.DataFrame, aggregates: Sequence[str]) -> pl.DataFrame:
    """Columns by the names that the job's author gave."""
    found = {name: _PARTIAL.fullmatch(name) for name in frame.columns}
    parts = [int(match[1]) for match in found.values() if match is not None]
    taken = {name for name in frame.columns if not name.startswith("__")}
    columns: list[pl.Expr] = []
    for name, match in found.items():
        wanted = _TIMES.get(name, _RECORDS if name == COUNT else name)
        if match is not None and int(match[1]) < len(aggregates):
            aggregate = aggregates[int(match[1])]
            wanted = aggregate if parts.count(int(match[1])) == 1 else f"{aggregate}_{match[2]}"
        if wanted != name and wanted in taken:
            wanted = name
        taken.add(wanted)
        column = pl.col(name)
        if name in _TIMES and frame[name].dtype == pl.Int64:
            column = column.cast(pl.Datetime("us", "UTC"))
        columns.append(column.alias(wanted))
    return frame.select(columns)
