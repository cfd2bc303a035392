"""Sorting of more rows than fit into memory: sorted runs, and their merging (Knuth, volume 3, 5.4).

Rows are gathered until they fill a part of the memory budget, sorted, and cut into blocks, which a frame store keeps
and spills. Runs are merged when there are many. Merging has some rows of each run at hand: up to the first of the
runs' last rows at hand, nothing else can come in between, so that they are sorted and put out together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.partition import partitioned
from streamflow.operators.contract.operator import OperatorContext
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, Table

__all__ = ["SortedRuns"]

_PLACE: Final = "__place"
"""The place of a row in its block."""
_RUN: Final = "__run"
_LAST: Final = "__last_at_hand"
_BLOCK: Final = 1 << 20
"""The largest size of a block; the store divides what is larger."""
_BLOCKS_PER_BUDGET: Final = 128
_RUNS_PER_BUDGET: Final = 4
_MOST_RUNS: Final = 16
"""The number of runs of one level that are merged into one."""
_PORTION: Final = 32_768
"""The number of rows that are put out at a time, if all are in memory."""
_PENDING: Final = "pending"


@dataclass(frozen=True, slots=True)
class _Run:
    """A sorted run: blocks in the panes from `first` on."""

    first: int
    blocks: int
    level: int


class SortedRuns:
    """The rows of one operator, sorted by columns; `descending` and `nulls_last` as of Polars' `sort`. Rows that are
    equal in these columns are in the order of `ties`."""

    def __init__(
        self,
        ctx: OperatorContext,
        by: Sequence[str],
        descending: Sequence[bool],
        *,
        nulls_last: bool,
        ties: Sequence[str],
    ) -> None:
        self._by = list(by)
        self._descending = list(descending)
        self._nulls_last = nulls_last
        self._ties = list(ties)
        self._owned = OwnedKeys((_PLACE,), ctx.groups, ctx.max_parallelism)
        memory = ctx.memory_budget
        self._store = FrameStore(ctx.state, ctx.operator_id, as_they_are, memory, self._owned, state="blocks")
        self._block = min(_BLOCK, max(1, memory.equal // _BLOCKS_PER_BUDGET))
        self._run = max(1, memory.equal // _RUNS_PER_BUDGET)
        self._runs: list[_Run] = []
        self._next = 0
        self._pending: list[pl.DataFrame] = []
        self._pending_bytes = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Adds rows."""
        self._pending.append(frame)
        self._pending_bytes += int(frame.estimated_size())
        if self._pending_bytes > self._run:
            self._end_run()

    def take_all(self) -> Iterator[pl.DataFrame]:
        """Takes out all rows in order, some thousands at a time."""
        if self._runs:
            if self._pending:
                self._end_run()
            runs, self._runs = self._runs, []
            yield from self._merged(runs)
        elif self._pending:
            rows = self._ordered(self._taken())
            yield from (rows[start : start + _PORTION] for start in range(0, rows.height, _PORTION))

    def __len__(self) -> int:
        return self._store.rows + sum(frame.height for frame in self._pending)

    def snapshot(self) -> OperatorSnapshot:
        """All rows."""
        stored = self._store.snapshot()
        runs = [[run.first, run.blocks, run.level] for run in self._runs]
        pending: Table = [(0, _placed(frame)) for frame in self._pending]
        values = {**stored.values, "runs": runs, "next": self._next}
        return OperatorSnapshot(values, {**stored.tables, _PENDING: pending}, stored.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)
        for part in parts:
            self._runs += [_Run(*run) for run in part.values["runs"]]
            self._next = max(self._next, part.number("next"))
        for _, frame in self._owned.restored(parts, _PENDING, as_they_are):
            self.add(frame.drop(_PLACE))

    def _ordered(self, rows: pl.DataFrame) -> pl.DataFrame:
        by, descending = self._by, self._descending
        if rows[by].n_unique() < rows.height:
            by, descending = [*by, *self._ties], [*descending, *[False] * len(self._ties)]
        return rows.sort(by, descending=descending, nulls_last=self._nulls_last, maintain_order=True)

    def _taken(self) -> pl.DataFrame:
        rows = concatenated(self._pending)
        self._pending, self._pending_bytes = [], 0
        return rows

    def _end_run(self) -> None:
        """Makes a run of the pending rows, and one of many."""
        self._write(iter([self._ordered(self._taken())]), 0)
        while len(many := [run for run in self._runs if run.level == self._runs[-1].level]) >= _MOST_RUNS:
            self._runs = [run for run in self._runs if run not in many]
            self._write(self._merged(many), many[0].level + 1)

    def _write(self, rows: Iterator[pl.DataFrame], level: int) -> None:
        first = self._next
        for frame in rows:
            step = max(1, frame.height * self._block // max(1, int(frame.estimated_size())))
            for start in range(0, frame.height, step):
                self._store.append(self._next, _placed(frame[start : start + step].rechunk()))
                self._next += 1
        self._runs.append(_Run(first, self._next - first, level))

    def _read(self, block: int) -> pl.DataFrame:
        frame = self._store.read(block)
        self._store.drop(block)
        # A block that was large enough to be divided comes back in another order.
        return (frame if frame[_PLACE].is_sorted() else frame.sort(_PLACE)).drop(_PLACE)

    def _merged(self, runs: Sequence[_Run]) -> Iterator[pl.DataFrame]:
        """The rows of runs in order, some blocks at a time."""
        unread = {number: iter(range(run.first, run.first + run.blocks)) for number, run in enumerate(runs)}
        at_hand: dict[int, pl.DataFrame] = {}
        full: dict[int, int] = {}
        while True:
            for number in list(unread):
                # Half a block of each at least, or a few rows of one run would decide how far the others come.
                while number in unread and 2 * _height(at_hand.get(number)) <= full.get(number, 0):
                    block = next(unread[number], None)
                    if block is None:
                        del unread[number]
                        break
                    rows = self._read(block)
                    full[number] = rows.height
                    at_hand[number] = concatenated([at_hand[number], rows]) if number in at_hand else rows
            if not at_hand:
                return
            told = [_told(frame, number, number in unread) for number, frame in at_hand.items()]
            rows = self._ordered(concatenated(told))
            bound = rows[_LAST].arg_max() if unread else None
            due = rows if bound is None else rows[: bound + 1]
            at_hand = {}
            if bound is not None:
                rest = rows[bound + 1 :]
                at_hand = {n: part.drop(_RUN, _LAST) for n, part in partitioned(rest, rest[_RUN])}
            yield due.drop(_RUN, _LAST)


def _height(frame: pl.DataFrame | None) -> int:
    return 0 if frame is None else frame.height


def _placed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_row_index(_PLACE)


def _told(frame: pl.DataFrame, run: int, more: bool) -> pl.DataFrame:
    """Rows at hand with their run, the last one marked if the run has more."""
    last = pl.repeat(False, frame.height - 1, eager=True, dtype=pl.Boolean)
    flags = pl.concat([last, pl.Series([more])]).alias(_LAST)
    return frame.hstack([pl.Series(_RUN, [run], dtype=pl.Int64).new_from_index(0, frame.height), flags])
