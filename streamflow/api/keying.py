"""The keys of a stream, and its keys and aggregate inputs as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from streamflow.api.stream import Stream, through
from streamflow.api.windowed import aggregate_inputs
from streamflow.core.schema import Schema, StreamSchema
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.windows.windowing import ALL_RECORDS
from streamflow.planning.convert import natural_layout
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
        stream = self.stream
        constants = [value.alias(name) for name, value in made if isinstance(value, pl.Expr)]
        functions = (*self.functions, *((n, value) for n, value in made if not isinstance(value, pl.Expr)))
        if self.keys == (ALL_RECORDS,):
            if not isinstance(stream.schema, Schema):
                functions = (*functions, (ALL_RECORDS, _zero))
            else:
                constants.append(pl.lit(0).alias(ALL_RECORDS))
        if constants:
            stream = stream.with_columns(*constants)
        if functions:
            inputs = _read_alone(functions, prepared)
            extract = Extract(functions, natural_layout(stream.type), inputs=inputs, needed=self.needed)
            stream = through(stream, extract)
        return stream, prepared


def _read_alone(
    functions: Iterable[tuple[str, Any]], aggregates: Iterable[tuple[str, Aggregate]]
) -> tuple[tuple[str, Aggregate], ...]:
    """The aggregates that read a column made by one of the functions, by that column's name."""
    read = {str(each.expression.meta.output_name()): each for _, each in aggregates if each.input is not None}
    return tuple((name, read[name]) for name, _ in functions if name in read)


def _zero(record: Any) -> int:
    return 0
