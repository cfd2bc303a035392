"""The two inputs of a join: the common specification of all joins, and the columns inside and behind one.

Inside a join both sides' rows name their keys as the left input does, and the right's other columns as the result
does, so that a pair is a plain join of two frames; by inner names, so that a user's column may have any name. Results
hold the keys once, then the left's columns, then the right's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.membership import without_null_keys
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema, shown_name
from streamflow.core.stream_type import EVERY_CHANGE, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import LATE, Collector, Layout, OperatorSpec
from streamflow.operators.joins.inner_names import inner_name
from streamflow.operators.joins.table_rows import DELETED

__all__ = [
    "ALONE",
    "LATE_SIDE",
    "SIDES",
    "TIMES",
    "Columns",
    "How",
    "JoinSpec",
    "Late",
    "changing_type",
    "records_of",
    "with_nulls",
]

How = Literal["inner", "left", "right", "outer", "semi", "anti"]

SIDES: Final = ("left", "right")
TIMES: Final = ("\x1aleft time", "\x1aright time")
"""The columns with each side's event time in microseconds."""
LATE_SIDE: Final = "late_side"
"""The column of late rows that says which input they came by."""
ALONE: Final[Mapping[How, tuple[bool, bool]]] = {
    "inner": (False, False),
    "left": (True, False),
    "right": (False, True),
    "outer": (True, True),
    "semi": (False, False),
    "anti": (True, False),
}
"""For each kind of join the sides whose rows come out alone where the other side has none of their key."""


@dataclass(frozen=True, kw_only=True)
class JoinSpec(OperatorSpec):
    """The keys of both inputs, pairwise, and the rows that come out.

    `how`: "inner" pairs; "left", "right", "outer" also the rows of that side, or of both, that have no partner; "semi"
    and "anti" the left's rows alone that have one, or none. A column that both inputs have gets `suffix` on the right.
    """

    emits: ClassVar[Layout] = Layout.FRAME
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    how: How = "inner"
    suffix: str = "_right"

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.right_keys if port else self.left_keys)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(Schema(self.columns(inputs).shown), timed=True)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        late = self.columns(inputs).shown_late
        if LATE_SIDE in late:
            raise JobDefinitionError(
                f"a column of the join is named {LATE_SIDE!r}, which its late rows have",
                hint=f"rename({{{LATE_SIDE!r}: …}}) before the join",
            )
        return StreamType(Schema({LATE_SIDE: pl.String()} | late), inputs[0].timed)

    between: ClassVar[Mapping[str, pl.DataType]] = {}
    """The columns of results between the keys and the left's."""

    def columns(self, inputs: Sequence[StreamType]) -> Columns:
        """The names and types of the columns; raises JobDefinitionError if the inputs cannot be joined."""
        return Columns(self, inputs)

    def check_timed(self, inputs: Sequence[StreamType], what: str) -> None:
        """Raises JobDefinitionError if an input has no event time."""
        for type_, side in zip(inputs, SIDES, strict=True):
            if not type_.timed:
                raise JobDefinitionError(
                    f"{what} needs event time, and the {side} stream has none",
                    hint='give it when reading: job.read(source, event_time="column")',
                )

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        columns = self.columns(inputs)
        kept = [{shown_name(name): str(dtype) for name, dtype in side.items()} for side in columns.kept]
        return {"keys": list(self.left_keys), "how": self.how, "left": kept[0], "right": kept[1]}

    def describe(self) -> str:
        return f"{self.how} on {self.on}"

    @property
    def on(self) -> str:
        """The keys, for people."""
        pairs = zip(self.left_keys, self.right_keys, strict=True)
        return ", ".join(
            shown_name(left) if left == right else f"{shown_name(left)} = {shown_name(right)}"
            for left, right in pairs
        )


class Columns:
    """The columns of a join: those that its state keeps of each side, and those of its result.

    `kept` and `result` map inner names to types, `kept` for each side: the keys first, as the left names them. `shown`
    and `shown_late` are the users' names, of the result and of late rows.
    """

    def __init__(self, spec: JoinSpec, inputs: Sequence[StreamType]) -> None:
        left, right = (_schema(each, side) for each, side in zip(inputs, SIDES, strict=True))
        self.how: How = spec.how
        _check_keys(spec, left, right)
        others = [name for name in right if name not in spec.right_keys and name != DELETED]
        names = {name: name + spec.suffix if name in left else name for name in others}
        _check_names(names, left, spec.suffix)
        keys = {key: left[key] for key in spec.left_keys}
        of_left = keys | {name: dtype for name, dtype in left.items() if name not in keys}
        of_right = keys | {names[name]: right[name] for name in others}
        self._read = list(of_left), [*spec.right_keys, *others]
        self._deletes = DELETED in right
        for name in (*of_left, *of_right):
            if name in spec.between:
                raise JobDefinitionError(
                    f"a column of the join is named {name!r}, which every result has",
                    hint=f"drop({name!r}) or rename it first",
                )
        whole = of_left if spec.how in ("semi", "anti") else of_left | of_right
        self.shown: dict[str, pl.DataType] = {**keys, **spec.between, **whole}
        self.shown_late: dict[str, pl.DataType] = {**of_left, **of_right}
        self.keys: list[str] = [inner_name(key) for key in keys]
        self.kept = _inside(of_left), _inside(of_right)
        self.result = _inside(self.shown)
        self._renames = list(self.result) != list(self.shown)

    def rows(self, batch: AnyBatch, port: int) -> pl.DataFrame:
        """A batch's rows under the names of `kept`, with their event time as a number in `TIMES[port]`, if timed,
        and DELETED, if the right has it."""
        assert isinstance(batch, FrameBatch)
        frame = batch.frame[self._read[port]]
        frame.columns = list(self.kept[port])
        more = [batch.frame[EVENT_TIME].cast(pl.Int64).alias(TIMES[port])] if batch.timed else []
        if port and self._deletes:
            more.append(batch.frame[DELETED])
        return frame.hstack(more)

    def with_partner_possible(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without null keys, which match nothing."""
        return without_null_keys(rows, self.keys)

    def alone(self, rows: pl.DataFrame, port: int) -> pl.DataFrame:
        """Rows of one side with the columns of the result; the other side's are null."""
        other = self.kept[1 - port]
        return with_nulls(rows, {name: dtype for name, dtype in other.items() if name in self.result})

    def written(self, rows: pl.DataFrame, time: pl.Series | None) -> FrameBatch:
        """The result's columns of rows, with this event time in microseconds."""
        shown = rows[list(self.result)]
        if self._renames:
            shown.columns = list(self.shown)
        if time is None:
            return FrameBatch(shown)
        return FrameBatch(shown.hstack([time.cast(EVENT_TIME_TYPE).alias(EVENT_TIME)]))


class Late:
    """The late rows of a join: behind its watermark when they come. They match nothing."""

    def __init__(self, columns: Columns, metrics: OperatorMetrics) -> None:
        self._columns = columns
        self._dropped = metrics.late_dropped

    def sorted_out(self, rows: pl.DataFrame, port: int, bound: int, out: Collector) -> pl.DataFrame:
        """The rows later than `bound`; the others go to the late output, or are counted as dropped."""
        times = rows[TIMES[port]]
        if rows.is_empty() or int(times.min()) > bound:  # type: ignore[arg-type]
            return rows
        on_time = times > bound
        self.put_out(rows.filter(~on_time), port, out)
        return rows.filter(on_time)

    def put_out(self, rows: pl.DataFrame, port: int, out: Collector) -> None:
        """Puts rows on the late output, or counts them as dropped."""
        if not out.connected(LATE):
            self._dropped.add(rows.height)
            return
        side = pl.Series(LATE_SIDE, [SIDES[port]]).new_from_index(0, rows.height)
        time = rows[TIMES[port]].cast(EVENT_TIME_TYPE).alias(EVENT_TIME)
        shown = self._columns.shown_late
        whole = with_nulls(rows, self._columns.kept[1 - port])[[inner_name(name) for name in shown]]
        whole.columns = list(shown)
        out.emit_to(LATE, FrameBatch(whole.insert_column(0, side).hstack([time])))


def with_nulls(rows: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The rows with those of these columns that they lack, full of nulls."""
    return rows.hstack(
        [
            pl.Series(name, [None], dtype).new_from_index(0, rows.height)
            for name, dtype in types.items()
            if name not in rows.columns
        ]
    )


def records_of(type_: StreamType) -> StreamType:
    """The type of the rows that changes are about; any other as it is."""
    if not type_.changes or not isinstance(type_.schema, Schema):
        return type_
    fields = {name: dtype for name, dtype in type_.schema.items() if name != CHANGE}
    return StreamType(Schema(fields), type_.timed)


def changing_type(columns: Columns, *, timed: bool) -> StreamType:
    """The type of a join's result that changes; raises JobDefinitionError for a column named like its kinds."""
    if CHANGE in columns.shown:
        raise JobDefinitionError(
            f"a column of the join is named {CHANGE!r}, which a changing result has",
            hint=f"rename({{{CHANGE!r}: …}}) first",
        )
    return StreamType(Schema({CHANGE: CHANGE_TYPE} | columns.shown), timed, EVERY_CHANGE)


def _inside(columns: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    return {inner_name(name): dtype for name, dtype in columns.items()}


def _schema(type_: StreamType, side: str) -> Schema:
    if not isinstance(type_.schema, Schema):
        raise JobDefinitionError(f"the {side} stream of a join has no columns")
    return type_.schema


def _check_keys(spec: JoinSpec, left: Schema, right: Schema) -> None:
    for one, other in zip(spec.left_keys, spec.right_keys, strict=True):
        types = left.need(one), right.need(other)
        if types[0] != types[1] and pl.Unknown() not in types:
            side, name, wanted = ("right", other, types[0]) if _holds(*types) else ("left", one, types[1])
            raise JobDefinitionError(
                f"the join compares {shown_name(one)!r}, which is {types[0]}, with {shown_name(other)!r}, which is"
                f" {types[1]}",
                hint=f"make them alike first: with_columns(col({shown_name(name)!r}).cast(pl.{wanted!r})) on the"
                f" {side}",
            )


def _holds(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether the first type holds all that the second does, and more."""
    if isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime):
        return other.time_unit == "ms"
    try:
        both = pl.concat(
            [pl.Series([], dtype=each).to_frame("k") for each in (one, other)], how="vertical_relaxed"
        )
    except pl.exceptions.PolarsError:
        return False
    return both.schema["k"] == one


def _check_names(names: Mapping[str, str], left: Schema, suffix: str) -> None:
    for name, shown in names.items():
        if shown in left or list(names.values()).count(shown) > 1:
            raise JobDefinitionError(
                f"two columns of the join would be named {shown!r}",
                hint=f"give another suffix than {suffix!r}, like suffix='_2', or rename({{{name!r}: …}}) first",
            )
