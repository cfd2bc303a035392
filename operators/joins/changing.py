"""The join of two changing tables, without a window: what stands on both sides joined, at any moment, with its changes.

Rows are kept with a weight, the number of times that they stand in their table; a change is a row with the weight 1 or
-1, and merging adds weights (as in a Z-set; Budiu et al., "DBSP", VLDB 2023). So a batch of changes joins with the
rows of its keys on the other side, and the weights of the pairs are products. A row alone appears and goes with the
first and the last row that its key has on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in
from streamflow.core.plain_keys import are_plain
from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema
from streamflow.core.stream_type import StreamType, lack_of_kinds, withdraws
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.operator import ByInput, Collector, OnChanges, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.matching import joined
from streamflow.operators.joins.sides import (
    ALONE,
    SIDES,
    TIMES,
    Columns,
    How,
    JoinSpec,
    changing_type,
    records_of,
)
from streamflow.operators.joins.single_rows import with_kinds
from streamflow.operators.joins.standing_rows import CAUSE, SETTLED, WEIGHT, StandingRows, added_up
from streamflow.operators.totals.cadence import check_unsaid
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_duration

__all__ = ["ChangingJoin"]

_OTHERS: Final = "\x1aothers"
"""The weight of the other side's row of a pair."""
_GOES: Final = "\x1agoes"
_RANK: Final = "\x1arank"


@dataclass(frozen=True, kw_only=True)
class ChangingJoin(JoinSpec):
    """A join of all rows that stand on both sides; `ttl`: rows are forgotten so many microseconds after they came.
    `single`: whether each side has one row of each key at most, all of whose changes come in order.

    Of records that never change, pairs and semi's rows are records too; everything else is a changing result.
    """

    kind: ClassVar[str] = "join"
    on_changes: ClassVar[OnChanges] = "take"
    ttl: int | None = None
    single: tuple[bool, bool] = (False, False)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        for type_, side in zip(inputs, SIDES, strict=True):
            if type_.changes and isinstance(type_.schema, Schema) and CHANGE not in type_.schema:
                raise lack_of_kinds(
                    f"the {side}'s rows", "keep that column, or join the records that the result is made of"
                )
        timed = all(type_.timed for type_ in inputs)
        if self.ttl is not None and not timed:
            raise JobDefinitionError(
                "a time to live needs event time on both sides",
                hint='give it when reading: job.read(source, event_time="column")',
            )
        columns = self.columns(inputs)
        return (
            changing_type(columns, timed=timed)
            if self.changes(inputs)
            else StreamType(Schema(columns.shown), timed)
        )

    def changes(self, inputs: Sequence[StreamType]) -> bool:
        """Whether rows of the result may go again."""
        return self.how not in ("inner", "semi") or any(type_.changes for type_ in inputs)

    def columns(self, inputs: Sequence[StreamType]) -> Columns:
        return super().columns([records_of(type_) for type_ in inputs])

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _ChangingJoining(self, ctx, inputs)

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        changing = [bool(type_.changes) for type_ in inputs]
        return {**super().state_signature(inputs), "changing": changing, "ttl": self.ttl}

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        # Rows of other keys come and go with those of this join's.
        if set(keys) != set(self.left_keys):
            return False
        left = before(0, self.left_keys)
        return left if self.how in ("semi", "anti") else left and before(1, self.right_keys)

    def describe(self) -> str:
        kept = "for ever" if self.ttl is None else f"for {format_duration(self.ttl)}"
        return f"{super().describe()}; keeps all rows {kept}"


class _ChangingJoining(Operator):
    """The logic of `ChangingJoin` in one subtask."""

    def __init__(self, spec: ChangingJoin, ctx: OperatorContext, inputs: Sequence[StreamType]) -> None:
        self._columns = columns = spec.columns(inputs)
        self._id = ctx.operator_id
        self._how: How = spec.how
        self._timed = all(type_.timed for type_ in inputs)
        self._changing = [bool(type_.changes) for type_ in inputs]
        self._changes = spec.changes(inputs)
        self._at_end = self._changes and ctx.updates == "end"
        key, *more = columns.keys
        plain = not more and spec.ttl is None and all(are_plain([kept[key]]) for kept in columns.kept)
        single = [plain and each for each in spec.single]
        # A row of the left in pairs has as many partners as the right has rows of its key.
        self._single = self._changes and single[0] and (single[1] or spec.how in ("semi", "anti"))
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._sides = [
            StandingRows(
                ctx,
                owned,
                port,
                list(columns.kept[port]),
                columns.keys,
                state=SIDES[port],
                ttl=spec.ttl,
                changing=self._changing[port],
                single=single[port],
                settling=ALONE[spec.how][port] or (spec.how == "semi" and port == 0),
            )
            for port in (0, 1)
        ]
        self._stores = [side.store for side in self._sides]
        self._unsaid = False
        self._watermark = MIN_TIME
        self._forgetting: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        side = self._sides[port]
        rows = side.net(self._weighted(batch, port))
        if rows.is_empty():
            return
        if self._at_end:
            side.keep(side.placed(rows))
            return
        self._say_all(out)
        partnered = self._columns.with_partner_possible(rows)
        changed: list[pl.DataFrame] = []
        if partnered.height:
            placed = side.placed(partnered)
            if placed.height:
                changed += self._changed(placed, port)
                side.keep(placed)
        if ALONE[self._how][port] and partnered.height < rows.height:
            without = rows.filter(pl.any_horizontal(pl.col(*self._columns.keys).is_null()))
            changed.append(self._result(without, port))
        self._put_out(changed, out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._say_all(out)
        if self._at_end and watermark >= MAX_TIME:
            self._put_out_all(out)
        if watermark > self._watermark and not self._at_end:
            self._watermark = watermark
            self._forgetting = self._forget(watermark)
        if self._forgetting is not None:
            for _ in self._forgetting:
                return None
            self._forgetting = None
        return watermark

    def waiting(self) -> tuple[Waiting, ...]:
        rows = sum(store.rows for store in self._stores) if self._at_end else 0
        return (Waiting("the join of all rows", MAX_TIME, rows),) if rows else ()

    @property
    def unfinished(self) -> bool:
        return self._forgetting is not None

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        # So that no checkpoint has rows that have been put out beside rows that have not.
        self._say_all(out)

    def finish(self, out: Collector) -> None:
        self._say_all(out)
        if self._at_end:
            self._put_out_all(out)

    def snapshot(self) -> OperatorSnapshot:
        kept = [store.snapshot() for store in self._stores]
        said = "nothing" if self._at_end or self._unsaid else "changes"
        values = {"said": said, **kept[0].values, **kept[1].values}
        return OperatorSnapshot(values, {**kept[0].tables, **kept[1].tables}, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        if self._at_end:
            check_unsaid(parts, "rows", self._id)
        for store in self._stores:
            store.restore(parts)
        unsaid = all(part.values["said"] == "nothing" for part in parts)
        self._unsaid = self._changes and not self._at_end and unsaid

    def _forget(self, watermark: int) -> Iterator[None]:
        """Forgets what is older than the time to live, a slice of the keys at a time."""
        for port, side in enumerate(self._sides):
            yield from side.forget(watermark, self._sides[1 - port])

    def _weighted(self, batch: AnyBatch, port: int) -> pl.DataFrame:
        """A batch's rows with their weight."""
        rows = self._columns.rows(batch, port)
        if not self._timed:
            rows = rows.drop(TIMES[port], strict=False)
        one = pl.Series(WEIGHT, [1]).new_from_index(0, rows.height)
        if self._changing[port]:
            assert isinstance(batch, FrameBatch)
            one = one.zip_with(~withdraws(batch.frame[CHANGE]), -one)
        return rows.hstack([one])

    def _changed(self, rows: pl.DataFrame, port: int) -> list[pl.DataFrame]:
        """The changes of the result that changes of one side's rows make, as rows of the result with weights."""
        keys, how, other = self._columns.keys, self._how, 1 - port
        others = self._sides[other].of(rows)
        changed: list[pl.DataFrame] = []
        if others is not None and how not in ("semi", "anti"):
            pairs = key_join(rows, others.rename({WEIGHT: _OTHERS}).drop(SETTLED, strict=False), keys)
            changed.append(
                self._result(pairs.with_columns(pl.col(WEIGHT) * pl.col(_OTHERS)).drop(_OTHERS), None)
            )
        if ALONE[how][port]:
            changed.append(self._result(rows.filter(~self._has_had_partner(rows, others)), port))
        if how == "semi" and port == 0:
            changed.append(self._result(rows.filter(self._has_had_partner(rows, others)), 0))
        # Rows of the other side that are alone no more, or again.
        depends = ALONE[how][other] or (how == "semi" and port == 1)
        if others is not None and depends:
            turned = self._turned(rows, port)
            if turned is not None:
                open_ = others.filter(~others[SETTLED]) if SETTLED in others.columns else others
                alone = key_join(open_, turned, keys)
                sign = 1 if how == "semi" else -1
                changed.append(
                    self._result(
                        alone.with_columns(pl.col(WEIGHT) * pl.col(_OTHERS) * sign).drop(_OTHERS), other
                    )
                )
        return changed

    def _has_had_partner(self, rows: pl.DataFrame, others: pl.DataFrame | None) -> pl.Series:
        """Whether each row has a partner among the other side's, or has had one that has been forgotten."""
        found = pl.Series([False]).new_from_index(0, rows.height)
        if others is not None:
            found = has_key_in(rows, others, self._columns.keys)
        return found | rows[SETTLED] if SETTLED in rows.columns else found

    def _turned(self, rows: pl.DataFrame, port: int) -> pl.DataFrame | None:
        """The keys that get their first row on this side (1), or lose their last one (-1), and when."""
        keys = self._columns.keys
        before = self._sides[port].of(rows)
        time = [pl.col(TIMES[port]).max().alias(CAUSE)] if self._timed else []
        changed = rows.group_by(keys, maintain_order=True).agg(pl.col(WEIGHT).sum(), *time)
        if before is None:
            after = changed.filter(pl.col(WEIGHT) > 0)
            return after.select(*keys, pl.lit(1).alias(_OTHERS), *([CAUSE] if time else []))
        stood = before.group_by(keys).agg(pl.col(WEIGHT).sum().alias(_OTHERS))
        both = key_join(changed, stood, keys, "left").with_columns(pl.col(_OTHERS).fill_null(0))
        had, has = both[_OTHERS] > 0, both[_OTHERS] + both[WEIGHT] > 0
        turned = has.cast(pl.Int64) - had.cast(pl.Int64)
        shown = both.select(*keys, *([CAUSE] if time else [])).hstack([turned.alias(_OTHERS)])
        shown = shown.filter(turned != 0)
        return shown if shown.height else None

    def _result(self, rows: pl.DataFrame, port: int | None) -> pl.DataFrame:
        """Rows of the result with their weight and time; `port`: of one side alone."""
        whole = rows if port is None else self._columns.alone(rows, port)
        shown = whole[[*self._columns.result, WEIGHT]]
        if not self._timed:
            return shown
        times = [name for name in (*TIMES, CAUSE) if name in whole.columns]
        return shown.hstack([whole.select(pl.max_horizontal(*times).alias(CAUSE)).to_series()])

    def _put_out(self, changed: Sequence[pl.DataFrame], out: Collector) -> None:
        changed = [frame for frame in changed if frame.height]
        if not changed:
            return
        rows = concatenated([frame[changed[0].columns] for frame in changed])
        columns = list(self._columns.result)
        if self._single:
            rows = with_kinds(rows, self._columns.keys[0], WEIGHT, columns)
            if rows.height:
                self._emit(rows, out)
            return
        if self._changes:
            rows = added_up(columns)(rows)
            if rows.is_empty():
                return
        if (rows[WEIGHT].abs() > 1).any():
            places = pl.int_range(rows.height, eager=True).repeat_by(rows[WEIGHT].abs()).explode()
            rows = rows[places]
        if self._changes:
            rows = self._with_kinds(rows)
        self._emit(rows, out)

    def _emit(self, rows: pl.DataFrame, out: Collector) -> None:
        written = self._columns.written(rows, rows[CAUSE] if self._timed else None)
        if self._changes:
            frame = written.frame
            written = FrameBatch(frame.insert_column(0, rows[CHANGE]))
        out.emit(written)

    def _with_kinds(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with their kind of change: of each key what goes and what comes in its place stand together."""
        goes = rows[WEIGHT] < 0
        if not goes.any():
            return rows.hstack([pl.Series(CHANGE, ["insert"], CHANGE_TYPE).new_from_index(0, rows.height)])
        keys = self._columns.keys
        ranked = rows.hstack([goes.alias(_GOES), pl.Series(_RANK, [0]).new_from_index(0, rows.height)])
        if ranked[[*keys, _GOES]].is_duplicated().any():
            ranked = ranked.with_columns(pl.int_range(pl.len()).over(*keys, _GOES).alias(_RANK))
        pairs = ranked[[*keys, _RANK]].is_duplicated()
        before, after, gone, new = (
            pl.lit(kind, CHANGE_TYPE) for kind in ("update_before", "update_after", "delete", "insert")
        )
        replaced, alone = (
            pl.when(_GOES).then(before).otherwise(after),
            pl.when(_GOES).then(gone).otherwise(new),
        )
        kind = pl.when(pairs).then(replaced).otherwise(alone)
        return ranked.with_columns(kind.alias(CHANGE)).sort(
            [*keys, _RANK, _GOES], descending=[False] * (len(keys) + 1) + [True], maintain_order=True
        )

    def _say_all(self, out: Collector) -> None:
        """Puts out everything that a batch job has kept for its end."""
        if self._unsaid:
            self._unsaid = False
            for rows in self._all():
                self._put_out([rows], out)

    def _put_out_all(self, out: Collector) -> None:
        for rows in self._all():
            self._put_out([rows], out)
        for store in self._stores:
            store.clear()

    def _all(self) -> Iterator[pl.DataFrame]:
        """The whole result, a slice of the keys at a time."""
        slices = max(side.slices() for side in self._sides)
        for number in range(slices):
            left, right = (side.slice(number, slices) for side in self._sides)
            if right is not None:
                right = right.rename({WEIGHT: _OTHERS})
            for rows, alone in joined(left, right, self._columns.keys, self._how):
                if alone is None:
                    # A row of the left alone has no other.
                    rows = rows.with_columns(pl.col(WEIGHT) * pl.col(_OTHERS).fill_null(1)).drop(_OTHERS)
                elif alone:
                    rows = rows.rename({_OTHERS: WEIGHT})
                yield self._result(rows, alone)
