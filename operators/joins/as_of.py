"""The as-of join: each row of the left with the latest version of its key, as of the row's event time.

A row waits until the watermark has passed it: all versions up to then are known. Of each key one version is kept for
good, the last one that the watermark has passed; later ones wait in order of time. So a batch costs what its own keys
cost, however many versions there were. The rule is that of a temporal table join (Flink) and of `join_asof` (Polars).
Of left rows that are changes, those that stand are kept as well, in `left_changes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.common_types import alike, concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.key_join import key_join
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.operator import Collector, OnChanges, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.left_changes import DUE, FOUND, GOES, LeftChanges
from streamflow.operators.joins.sides import SIDES, TIMES, Columns, JoinSpec, Late, changing_type, records_of
from streamflow.operators.joins.table_rows import KeyedRows, deleted, last_of_each, make_current
from streamflow.operators.stateless.lone_halves import ROW
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MIN_TIME, format_duration, format_time

__all__ = ["AsOfJoin"]

_VERSIONS: Final = 0
"""The one pane of the store: the current version of each key."""
_KEY: Final = "\x1akey"
_AT_ONCE: Final = 65_536
"""The number of versions that rows are joined with at once."""
_LEFT, _RIGHT = TIMES
_STANDING: Final = "standing"
_ALONE: Final = pl.Series(FOUND, [False])


@dataclass(frozen=True, kw_only=True)
class AsOfJoin(JoinSpec):
    """A join with the right's latest row per key at the left's time; `tolerance`: not older than so many microseconds.

    `how` is "inner", "left", "semi" or "anti". The right may have the column DELETED. `changing`: the left are changes,
    and so is the result.
    """

    kind: ClassVar[str] = "asof_join"
    on_changes: ClassVar[OnChanges] = "take"
    tolerance: int | None = None
    changing: bool = False

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        left, right = inputs
        if right.changes:
            raise JobDefinitionError(
                "a join as of a time with changes, which have no latest row",
                hint='make a table of them: to_table("key", versioned=True)',
            )
        if self.changing and not left.timed:
            raise JobDefinitionError(
                "a join of changes as of a time needs event time, and they have none",
                hint="give it when reading: job.read(source, event_time=…); or join with table.changes(), which"
                " has the latest rows",
            )
        self.check_timed(inputs, "a join as of a time")
        return (
            changing_type(self.columns(inputs), timed=True) if self.changing else super().output_type(inputs)
        )

    def columns(self, inputs: Sequence[StreamType]) -> Columns:
        return super().columns([records_of(type_) for type_ in inputs])

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _AsOfJoining(self, ctx, inputs)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        signature = dict(super().state_signature(inputs))
        if self.changing:
            return {**signature, "changing": True}
        # Only what comes next depends on `how` and the tolerance.
        del signature["how"]
        return signature

    def describe(self) -> str:
        within = "" if self.tolerance is None else f" within {format_duration(self.tolerance)}"
        rows = ", and the left's rows that stand" if self.changing else ""
        return f"{super().describe()} as of the left's time{within}; keeps the last version of each key{rows}"


class _AsOfJoining(Operator):
    """The logic of `AsOfJoin` in one subtask."""

    def __init__(self, spec: AsOfJoin, ctx: OperatorContext, inputs: Sequence[StreamType]) -> None:
        self._columns = columns = spec.columns(inputs)
        self._how = spec.how
        self._tolerance = spec.tolerance
        self._of_version = [name for name in columns.kept[1] if name not in columns.keys]
        self._late = Late(columns, ctx.metrics)
        self._versioned_rows = KeyedRows(columns.keys, ctx.metrics)
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._versions = FrameStore(
            ctx.state,
            ctx.operator_id,
            lambda versions: last_of_each(versions, columns.keys),
            ctx.memory_budget,
            owned,
            state="versions",
            replacing=True,
            repeated=True,
        )
        self._changes = LeftChanges(columns, ctx) if spec.changing else None
        self._order = _LEFT if self._changes is None else DUE
        self._waiting = [
            TimeSorted(
                ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=time, state=f"{side}-waiting"
            )
            for side, time in zip(SIDES, (self._order, _RIGHT), strict=True)
        ]
        self._watermark = MIN_TIME
        self._joining: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        if self._changes is not None and not port:
            self._take(self._changes, batch, out)
            return
        rows = self._late.sorted_out(self._columns.rows(batch, port), port, self._watermark, out)
        if port:
            rows = self._versioned_rows.of(rows)
        self._waiting[port].add(rows)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._watermark = watermark
            self._joining = self._join(watermark, out)
        if self._joining is not None:
            for _ in self._joining:
                return None
            self._joining = None
        return watermark

    def waiting(self) -> tuple[Waiting, ...]:
        first = self._waiting[0].earliest()
        if first is None:
            return ()
        return (Waiting(f"the left's row of {format_time(first)}", first, len(self._waiting[0])),)

    @property
    def unfinished(self) -> bool:
        return self._joining is not None

    def work_at(self, watermark: int) -> int:
        return sum(each.rows_by(watermark) for each in self._waiting)

    def snapshot(self) -> OperatorSnapshot:
        versions = self._versions.snapshot()
        waiting = {side: each.snapshot() for side, each in zip(SIDES, self._waiting, strict=True)}
        values = {"watermark": self._watermark, **versions.values}
        values |= {side: each.values for side, each in waiting.items()}
        tables = {**versions.tables, **waiting["left"].tables, **waiting["right"].tables}
        if self._changes is not None:
            standing = self._changes.store.snapshot()
            values |= {_STANDING: standing.values}
            tables |= standing.tables
        return OperatorSnapshot(values, tables, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._versions.restore(parts)
        for side, each in zip(SIDES, self._waiting, strict=True):
            each.restore([replace(part, values=part.values[side]) for part in parts])
        if self._changes is not None:
            self._changes.store.restore([replace(part, values=part.values[_STANDING]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

    def _join(self, limit: int, out: Collector) -> Iterator[None]:
        """Joins the rows up to `limit`, in order of time and some thousand at once, and moves the versions on."""
        rows, versions = self._waiting
        reached = limit - 1
        while reached < limit:
            due, reached = rows.take(limit)
            newer: list[pl.DataFrame] = []
            for some in versions.due(reached):
                newer.append(some)
                if due is not None and sum(frame.height for frame in newer) >= _AT_ONCE:
                    # Rows from before the last of these versions have to be joined before it is a key's only one.
                    passed = due[self._order] < some[_RIGHT][-1]
                    self._move_on(due.filter(passed), newer, out)
                    due, newer = due.filter(~passed), []
                elif due is None:
                    self._replace(some)
                    newer = []
            self._move_on(due, newer, out)
            yield

    def _move_on(self, rows: pl.DataFrame | None, newer: Sequence[pl.DataFrame], out: Collector) -> None:
        """Joins rows with versions of which some are newer than the current ones, and makes the last ones current."""
        versions = concatenated(newer) if newer else None
        if rows is not None:
            self._put_out(rows, versions, out)
        if versions is not None:
            self._replace(versions)

    def _replace(self, newer: pl.DataFrame) -> None:
        """Makes the last version of each key its current one."""
        make_current(self._versions, _VERSIONS, last_of_each(newer, self._columns.keys))

    def _take(self, changes: LeftChanges, batch: AnyBatch, out: Collector) -> None:
        """Takes changes of the left: they wait until they are due, or go out at once if that is over."""
        rows = changes.rows(batch)
        if rows.is_empty():
            return
        late = rows[_LEFT] <= self._watermark
        late &= ~rows[GOES]
        if late.any():
            self._late.put_out(rows.filter(late), 0, out)
        waiting = changes.taken(rows, late)
        over = waiting[DUE] <= self._watermark
        if over.any():
            self._emit(waiting.filter(over).with_row_index(ROW), out)
        self._waiting[0].add(waiting.filter(~over))

    def _put_out(self, rows: pl.DataFrame, newer: pl.DataFrame | None, out: Collector) -> None:
        """Joins rows with the versions of their time, and puts them out."""
        if rows.is_empty():
            return
        if self._changes is None:
            self._emit(self._joined(rows, newer), out)
            return
        self._emit(self._changes.due(rows, lambda fresh: self._joined(fresh, newer)), out)

    def _joined(self, rows: pl.DataFrame, newer: pl.DataFrame | None) -> pl.DataFrame:
        """The rows with their version and whether one was FOUND, of the current versions of their keys and of newer
        ones, all in order of time."""
        current = self._versions.look_up(_VERSIONS, rows) if rows.height else None
        versions = [] if current is None else [current.sort(_RIGHT)]
        versions += [] if newer is None else [newer]
        if not versions:
            return self._columns.alone(rows, 0).hstack([_ALONE.new_from_index(0, rows.height)])
        both = self._as_of(rows, concatenated(versions))
        gone = deleted(both)
        found = (both[_RIGHT].is_not_null() & ~gone).alias(FOUND)
        if gone.any() and self._of_version:
            both = both.with_columns(pl.when(found).then(pl.col(self._of_version)))
        return both[self._columns.alone(rows.clear(), 0).columns].hstack([found])

    def _emit(self, rows: pl.DataFrame, out: Collector) -> None:
        if self._how != "left":
            rows = rows.filter(rows[FOUND] if self._how != "anti" else ~rows[FOUND])
        if rows.height:
            written = (
                self._columns.written(rows, rows[_LEFT])
                if self._changes is None
                else self._changes.written(rows)
            )
            out.emit(written)

    def _as_of(self, rows: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
        """The rows, each with the columns of the last version at its time, or with nulls."""
        keys = self._columns.keys
        rows, versions = alike(rows, versions, keys)
        by = keys
        if not all(_groups_alike(dtype) for dtype in rows[keys].dtypes):
            by = [_KEY]
            numbers = pl.concat([rows[keys], versions[keys]]).unique().with_row_index(_KEY)
            rows = rows.join(numbers, on=keys, how="left", nulls_equal=True, maintain_order="left")
            versions = key_join(versions, numbers, keys).drop(keys)
        return rows.join_asof(
            versions,
            left_on=_LEFT,
            right_on=_RIGHT,
            by=by,
            tolerance=self._tolerance,
            coalesce=False,
            check_sortedness=False,
        )


def _groups_alike(dtype: pl.DataType) -> bool:
    """Whether Polars compares keys of this type in `join_asof` as it does in `group_by`."""
    return dtype.is_integer() or dtype in (pl.String(), pl.Binary(), pl.Boolean(), pl.Date())
