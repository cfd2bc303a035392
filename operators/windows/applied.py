"""`ApplyPanes`: a user's function from the DataFrame of a pane's records to a DataFrame, called once for each pane.

The window operator before it has collected the records. The function's rows get the pane's keys, window and event
time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, Schema
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    Collector,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.stateless.frames import MapBatches
from streamflow.user_code import line_of_definition, user_error

__all__ = ["PANE_RECORDS", "ApplyPanes"]

PANE_RECORDS: Final = "\x1arecords"
"""The column of a pane's records: a list of structs."""
_INSTEAD: Final = {"update_before": "delete", "update_after": "insert"}
"""A new pane may have another number of rows than the one that it replaces: no row takes the place of another."""


@dataclass(frozen=True)
class ApplyPanes(OperatorSpec):
    """The function for panes of records with the columns `records`; `schema`: its result's, if given."""

    kind: ClassVar[str] = "apply"
    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    on_changes: ClassVar[OnChanges] = "take"
    calls_functions: ClassVar[bool] = True
    function: Callable[[pl.DataFrame], pl.DataFrame]
    records: Schema
    schema: Schema | None = None

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        made = self._made
        leading = {
            name: dtype
            for name, dtype in _columns(inputs[0]).items()
            if name != PANE_RECORDS and name not in made
        }
        changes: set[ChangeKind] = set(inputs[0].changes)
        if changes and CHANGE in made:
            raise JobDefinitionError(
                f"the function gives a column {CHANGE!r}, in which these results say what becomes of a row",
                where=Where(code=line_of_definition(self.function)),
                hint='name it otherwise, or leave out accumulation="retracting"',
            )
        if changes - {"insert"}:
            changes = {"insert", "delete"}
        return StreamType(Schema({**leading, **made}), inputs[0].timed, frozenset(changes))

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        made = StreamType(self._made, timed=False)
        return _ApplyPanesOperator(self._mapped, made, changes=bool(inputs[0].changes))

    def describe(self) -> str:
        return getattr(self.function, "__name__", "")

    @property
    def _mapped(self) -> MapBatches:
        return MapBatches(self.function, self.schema)

    @property
    def _made(self) -> Schema:
        return _columns(self._mapped.output_type([StreamType(self.records, timed=False)]))


class _ApplyPanesOperator(Operator):
    def __init__(self, mapped: MapBatches, made: StreamType, *, changes: bool) -> None:
        self._mapped = mapped
        self._made = made
        self._changes = changes

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        panes = batch.frame
        if panes.is_empty():
            return
        made = [self._applied(panes, pane) for pane in range(panes.height)]
        result = concatenated(made)
        rows = [pane for pane, frame in enumerate(made) for _ in range(frame.height)]
        leading = panes[
            [name for name in panes.columns if name != PANE_RECORDS and name not in result.columns]
        ]
        leading = leading[pl.Series(rows, dtype=pl.UInt32)]
        if self._changes:
            kinds = leading[CHANGE].cast(pl.String).replace(_INSTEAD).cast(CHANGE_TYPE)
            leading = leading.with_columns(kinds.alias(CHANGE))
        out.emit(FrameBatch(leading.hstack(result)))

    def _applied(self, panes: pl.DataFrame, pane: int) -> pl.DataFrame:
        try:
            return self._mapped.apply(panes[PANE_RECORDS][pane].struct.unnest(), self._made)
        except BaseException as raised:
            raise user_error(
                "the function of apply",
                raised,
                record=panes.drop(PANE_RECORDS, EVENT_TIME, strict=False).row(pane, named=True),
                hint="it is called with all records of a key and window as one DataFrame",
            ) from raised


def _columns(type_: StreamType) -> Schema:
    assert isinstance(type_.schema, Schema)
    return type_.schema
