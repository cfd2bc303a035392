"""The keys of a stream, and its keys and aggregate inputs as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from streamflow.api.stream import Stream, through
from streamflow.api.windowed import aggregate_inputs
from streamflow.core.schema import CHANGE, Schema, StreamSchema
from streamflow.core.stream_type import EVERY_CHANGE
from streamflow.errors import StreamflowError, cut
from streamflow.operators.process.process import WHOLE_RECORD
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.windows.windowing import ALL_RECORDS
from streamflow.planning.convert import natural_layout
from streamflow.windows.accumulators import pack
from streamflow.windows.aggregates import Aggregate

__all__ = ["Keying", "NullKeys"]

NullKeys = Literal["fail", "group"]


@dataclass(frozen=True)
class Keying:
    """A stream and its keys.

    `functions` are the keys that Python functions give; they become columns together with the aggregates' inputs.
    `record_schema` is the schema of a record before it was keyed.
    """

    stream: Stream
    keys: tuple[str, ...]
    functions: tuple[tuple[str, Callable[[Any], Any]], ...]
    null_keys: NullKeys
    record_schema: StreamSchema

    @property
    def record_columns(self) -> tuple[str, ...] | None:
        """The record's own columns, without key columns made by functions; None for objects."""
        return tuple(self.record_schema) if isinstance(self.record_schema, Schema) else None

    @property
    def needed(self) -> tuple[str, ...]:
        """The names of the keys that functions give and that may not be null."""
        return tuple(name for name, _ in self.functions) if self.null_keys == "fail" else ()

    def columns(self, aggregates: dict[str, Aggregate]) -> tuple[Stream, tuple[tuple[str, Aggregate], ...]]:
        """The stream with every key and aggregate input as a column, and the aggregates over those columns."""
        made, prepared = aggregate_inputs(aggregates, self.stream.type.schema)
        constants = [value.alias(name) for name, value in made if isinstance(value, pl.Expr)]
        functions = [(name, value) for name, value in made if not isinstance(value, pl.Expr)]
        if self.stream.type.changes and self.record_columns is None:
            functions.append((CHANGE, _kind))
        stream, functions = self._with_one_key(constants, functions)
        if functions:
            inputs = _read_alone(functions, prepared)
            layout = natural_layout(stream.type)
            extract = Extract(tuple(functions), layout, inputs=inputs, needed=self.needed)
            stream = through(stream, extract)
        return stream, prepared

    def whole_records(self, more: Iterable[tuple[str, Callable[[Any], Any]]] = ()) -> Stream:
        """The stream with every key as a column, and what `more` functions give; beside them the columns of a record,
        or an object, packed, in the column WHOLE_RECORD."""
        stream, functions = self._with_one_key([], [*more])
        if self.record_columns is None:
            functions.append((WHOLE_RECORD, _packed))
        if not functions:
            return stream
        return through(stream, Extract(tuple(functions), natural_layout(stream.type), needed=self.needed))

    def _with_one_key(
        self, constants: Sequence[pl.Expr], functions: Sequence[tuple[str, Callable[[Any], Any]]]
    ) -> tuple[Stream, list[tuple[str, Callable[[Any], Any]]]]:
        """The stream with these constants as columns, and the functions that make the keys and these columns; of
        records without a key the one key that all have."""
        constants, functions = [*constants], [*self.functions, *functions]
        if self.keys == (ALL_RECORDS,):
            if isinstance(self.stream.schema, Schema):
                constants.append(pl.lit(0).alias(ALL_RECORDS))
            else:
                functions.append((ALL_RECORDS, _zero))
        return self.stream.with_columns(*constants) if constants else self.stream, functions


def _read_alone(
    functions: Iterable[tuple[str, Any]], aggregates: Iterable[tuple[str, Aggregate]]
) -> tuple[tuple[str, Aggregate], ...]:
    """The aggregates that read a column made by one of the functions, by that column's name."""
    read = {str(each.expression.meta.output_name()): each for _, each in aggregates if each.input is not None}
    return tuple((name, read[name]) for name, _ in functions if name in read)


def _kind(record: Any) -> str:
    kind: str = record[CHANGE]
    if kind not in EVERY_CHANGE:
        raise StreamflowError(
            f"{CHANGE!r} of the record is {cut(kind)}",
            hint=f"it says which kind of change the record is: {', '.join(sorted(EVERY_CHANGE))}; leave it as it is",
        )
    return kind


def _zero(record: Any) -> int:
    return 0


def _packed(record: Any) -> bytes:
    return pack(record)
