"""`TopRowsSpec`: the first rows of each key in some order, a result that changes as records come.

A record that comes into the first rows is an insert, one that is displaced or withdrawn a delete; where there is one
row for each key it is updated. The input may itself be changes: then all rows are kept, since each may come up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, OBJECTS, Schema, shown_name
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ByInput,
    ErrorPolicy,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.operators.process.keys import typed_keys
from streamflow.operators.sorting.ranked_rows import OBJECT, RankedRows
from streamflow.operators.sorting.record_form import RecordForm
from streamflow.operators.totals.cadence import in_cadence
from streamflow.operators.windows.windowing import ALL_RECORDS
from streamflow.state.keyed.owned_keys import OwnedKeys

__all__ = ["LastOfEachSpec", "TopRowsSpec"]


@dataclass(frozen=True)
class TopRowsSpec(OperatorSpec):
    """The first `n` rows of each key in the order of `by`: columns, each with whether it is descending.

    `record_columns` are the records' own columns (with that of the kind, if they are changes); None: they are objects.
    `shown`: `by` as the user wrote it.
    """

    kind: ClassVar[str] = "top_k"
    on_changes: ClassVar[OnChanges] = "take"
    keys: tuple[str, ...]
    n: int
    by: tuple[tuple[str, bool], ...]
    record_columns: tuple[str, ...] | None
    null_keys: Literal["fail", "group"] = "fail"
    on_error: ErrorPolicy = "fail"
    shown: tuple[str, ...] = ()

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return Layout.ROWS if self.record_columns is None else Layout.FRAME

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        before = inputs[0]
        self._check(before)
        kinds = self._kinds(before)
        if self.record_columns is None:
            return StreamType(OBJECTS, before.timed, kinds)
        assert isinstance(before.schema, Schema)
        keys = {shown_name(key): before.schema[key] for key in self.shown_keys}
        own = {name: before.schema[name] for name in self.record_columns if name != CHANGE}
        return StreamType(Schema({CHANGE: CHANGE_TYPE} | keys | own), before.timed, kinds)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        before = inputs[0]
        form = RecordForm(self._content(before), before.timed)
        rows = RankedRows(
            ctx,
            OwnedKeys(self.keys, ctx.groups, ctx.max_parallelism),
            form,
            n=self.n,
            order=self.order(form),
            shown_keys=self.shown_keys,
            changing=bool(before.changes),
            checked=self.keys if self.null_keys == "fail" else (),
            guard=Guard(ctx.operator_id, self.on_error, ctx.metrics),
            duplicates=self.counts_duplicates,
        )
        return in_cadence(rows, ctx)

    def order(self, form: RecordForm) -> tuple[tuple[str, bool], ...]:
        """The columns that decide, each with whether it is descending: of rows that are equal in `by` the earlier one
        is first, and of those of one moment the one whose columns' values are."""
        times = [EVENT_TIME] if form.timed else []
        return (*self.by, *((name, False) for name in [*times, *form.content]))

    @property
    def counts_duplicates(self) -> bool:
        """Whether rows that are left out are counted as duplicates."""
        return False

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """The keys that results show beside the record: those whose names are not among its columns."""
        own = self.record_columns or ()
        return tuple(key for key in self.keys if shown_name(key) not in own and key != ALL_RECORDS)

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        return self.n == 1 and set(keys) == set(map(shown_name, self.keys))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {
            "keys": typed_keys(self.keys, inputs[0]),
            "n": self.n,
            "by": [list(each) for each in self.by],
            "changes": bool(inputs[0].changes),
        }

    def describe(self) -> str:
        keys = ", ".join(map(shown_name, (key for key in self.keys if key != ALL_RECORDS)))
        directions = (" descending" if down else "" for _, down in self.by)
        order = ", ".join(map(str.__add__, self.shown, directions))
        return f"{self.n} by {order}" + (f" of each {keys}" if keys else "")

    def _content(self, before: StreamType) -> tuple[str, ...] | None:
        if self.record_columns is None:
            return None
        return tuple(name for name in self.record_columns if not (before.changes and name == CHANGE))

    def _check(self, before: StreamType) -> None:
        if before.changes and (self.record_columns is None or CHANGE not in self.record_columns):
            lack = f"lack their kind: the column {CHANGE!r} is gone"
            raise JobDefinitionError(
                f"the rows are changes of a result, and {'are objects' if self.record_columns is None else lack}",
                hint="keep the changing result's columns as they are, and filter or rename behind this",
            )
        if self.record_columns is None and OBJECT in map(shown_name, self.keys):
            raise JobDefinitionError(
                f"a key cannot be named {OBJECT!r}: that is the record's place in a result",
                hint="name it otherwise: write the key's function with def",
            )
        if not before.changes and CHANGE in (
            (*(self.record_columns or ()), *map(shown_name, self.shown_keys))
        ):
            raise JobDefinitionError(
                f"a column cannot be named {CHANGE!r}: every result has that column",
                hint="rename the column first",
            )

    def _kinds(self, before: StreamType) -> frozenset[ChangeKind]:
        kinds: list[ChangeKind] = (
            ["insert", "update_before", "update_after"] if self.n == 1 else ["insert", "delete"]
        )
        if before.changes:
            kinds.append("delete")
        return frozenset(kinds)


@dataclass(frozen=True)
class LastOfEachSpec(TopRowsSpec):
    """The last record of each key by event time; of those of one moment the last in the order of their columns' values.
    A later record replaces it."""

    kind: ClassVar[str] = "deduplicate"
    on_changes: ClassVar[OnChanges] = "refuse"

    def order(self, form: RecordForm) -> tuple[tuple[str, bool], ...]:
        return tuple((name, True) for name in (EVENT_TIME, *form.content))

    @property
    def counts_duplicates(self) -> bool:
        return True

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {"keys": typed_keys(self.keys, inputs[0]), "keep": "last", "within": None}

    def describe(self) -> str:
        return f"last by {', '.join(map(shown_name, self.keys))}"
