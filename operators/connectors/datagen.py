"""`DataGen`: generated events, the same each time, as fast as they are taken or at a given rate."""

# The source and its reader belong together.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import inf
from typing import Any, Final

import polars as pl

from streamflow.arguments import whole_number
from streamflow.core.batch import RowBatch
from streamflow.core.copies import copied
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_row
from streamflow.core.schema import EVENT_TIME_TYPE, OBJECTS, Objects, Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.core.values import strict_frame
from streamflow.errors import JobDefinitionError, RecordError, StreamflowError, Where
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.connectors.row_frames import frame_of_rows, schema_of_rows
from streamflow.operators.contract.source import (
    Decoded,
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)
from streamflow.operators.stateless.per_row import check_per_row
from streamflow.time.timestamps import to_micros
from streamflow.user_code import described, line_of_error, raised_by_user

__all__ = ["INDEX", "DataGen"]

INDEX: Final = "index"
"""The column over which expressions are evaluated: 0, 1, 2 and so on."""

_TICK: Final = 0.005
_SAMPLE: Final = 10
_ROW_BYTES: Final = 64
_MOST_BYTES: Final = 16 << 20
"""The approximate bytes that a function makes at once."""
_FIRST_ROWS: Final = 64
"""Rows that a function makes at once before their size is known."""

Make = Callable[[int], Any]


@dataclass(frozen=True, slots=True, eq=False)
class DataGen(Source):
    """Events number 0, 1, 2, … made by `make`; each depends on its number only, so a job can go on from any of them.

    `make` is a mapping from column names to Polars expressions over `col("index")`, or a Python function from the
    number to a row. A function's columns come from its first rows, or from `schema`; values that are not dicts stay
    objects. Without `make` the events have the columns `ts` (from `start` on, spaced by the rate, or 1 ms), `key`
    (`key-00` … `key-99`) and `value` (in [0, 1), from `seed`).

    `rate` is in rows a second, None for as fast as they are taken; due rows come at most every 5 ms. `rows` bounds
    the source; None: it never ends. `splits` is the number of subtasks that can share the work.

    Raises JobDefinitionError for arguments that make no sense.

    >>> DataGen({"n": pl.col("index") * 2}, rows=3).output_type().schema
    Schema(n: Int64)
    """

    make: Mapping[str, pl.Expr] | Make | None = None
    rate: float | None = None
    rows: int | None = None
    schema: Mapping[str, Any] | Objects | None = None
    start: datetime | str = "2020-01-01T00:00:00Z"
    seed: int = 0
    splits: int = 1
    _columns: Mapping[str, pl.Expr] | None = field(init=False, repr=False)
    _schema: StreamSchema = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rate: object = self.rate
        if rate is not None and not (isinstance(rate, int | float) and 0 < rate < inf):
            raise JobDefinitionError(f"rate is {rate!r}", hint="rows a second must be more than 0")
        if self.rows is not None:
            whole_number(self.rows, "rows", least=0)
        whole_number(self.splits, "splits")
        whole_number(self.seed, "seed", least=0)
        if self.make is None:
            interval = 1000 if self.rate is None else max(1, round(1_000_000 / self.rate))
            columns: Mapping[str, pl.Expr] | None = _events(to_micros(self.start), interval, self.seed)
        else:
            columns = None if callable(self.make) else dict(self.make)
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_schema", self._find_schema())

    @property
    def bounded(self) -> bool:
        return self.rows is not None

    def output_type(self) -> StreamType:
        return StreamType(self._schema, timed=False)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(*(Split(f"datagen-{number}", {"first": number}) for number in range(self.splits)))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        first = int(split.payload["first"])
        return _DataGenReader(self, split, first if position is None else counted_in(position, "index"), ctx)

    def describe(self) -> str:
        rows = "endless" if self.rows is None else f"{self.rows} rows"
        return f"DataGen({rows}{f', {self.rate:g} a second' if self.rate is not None else ''})"

    def _find_schema(self) -> StreamSchema:
        if isinstance(self.schema, Objects):
            return OBJECTS
        if self.schema is not None:
            return Schema(self.schema)
        if self._columns is not None:
            check_per_row(*self._columns.values())
            try:
                frame = pl.LazyFrame(schema={INDEX: pl.Int64}).select(**self._columns)
                return Schema(frame.collect_schema())
            except (pl.exceptions.PolarsError, TypeError) as error:
                raise JobDefinitionError(
                    f"the columns cannot be made: {error}", hint='write expressions over col("index")'
                ) from error
        assert callable(self.make)
        return schema_of_rows([self.make(index) for index in range(min(_SAMPLE, self.rows or _SAMPLE))])

    def _batch(self, first: int, count: int, ctx: SourceContext, split: str) -> Decoded:
        """Every `splits`-th event from number `first` on."""
        numbers = range(first, first + count * self.splits, self.splits)
        if self._columns is not None:
            assert isinstance(self._schema, Schema)
            index = pl.int_range(numbers.start, numbers.stop, numbers.step, dtype=pl.Int64, eager=True).alias(
                INDEX
            )
            made = {
                name: expr
                for name, expr in self._columns.items()
                if ctx.columns is None or name in ctx.columns
            }
            frame = index.to_frame().with_columns(**made).select(list(made))
            fitting, misfits = strict_frame(frame, {name: self._schema[name] for name in frame.columns})
            return self._decoded(fitting, misfits, lambda at: shown_row(frame, at), numbers, ctx, split)
        assert callable(self.make)
        rows: list[Any] = []
        for number in numbers:
            try:
                rows.append(copied(self.make(number)))
            except StreamflowError:
                raise
            except BaseException as raised:
                cause = raised_by_user(raised)
                name = getattr(self.make, "__name__", "the function")
                raise RecordError(
                    f"{name}({number}) raised {described(cause)}",
                    record=number,
                    where=Where(split=split, code=line_of_error(cause)),
                ) from raised
        if not isinstance(self._schema, Schema):
            return Decoded(RowBatch(rows))
        good, bad = frame_of_rows(rows, self._schema, ctx.columns)
        return self._decoded(good, bad, lambda at: rows[at], numbers, ctx, split)

    def _decoded(
        self,
        good: pl.DataFrame,
        bad: Mapping[int, str],
        record: Callable[[int], Any],
        numbers: range,
        ctx: SourceContext,
        split: str,
    ) -> Decoded:
        errors = [
            RecordError(what, record=record(at), where=Where(split=split, offset=f"row {numbers[at]}"))
            for at, what in sorted(bad.items())
        ]
        if errors and ctx.on_error == "fail":
            raise errors[0]
        return Decoded(FrameBatch(good), errors)


class _DataGenReader:
    def __init__(self, gen: DataGen, split: Split, index: int, ctx: SourceContext) -> None:
        self._gen = gen
        self._split = split.id
        self._index = index
        self._ctx = ctx
        self._begun: float | None = None
        self._given = 0
        self._row_bytes: int | None = None
        """The bytes of a function's row, by the last rows."""

    async def fetch(self) -> Fetch | None:
        most = min(self._ctx.batch_rows, self._at_once())
        if self._gen.rows is not None:
            # Numbers left for this split, counted in its own steps.
            most = min(most, -(-(self._gen.rows - self._index) // self._gen.splits))
        if most <= 0:
            return None
        count = await self._due(most)
        first, self._index = self._index, self._index + count * self._gen.splits
        self._given += count
        decode = partial(self._make, first, count)
        return Fetch(decode, {"index": self._index}, count * (self._row_bytes or _ROW_BYTES))

    async def close(self) -> None:
        """Closes nothing."""

    def _at_once(self) -> int:
        if self._gen._columns is not None:
            return self._ctx.batch_rows
        return _FIRST_ROWS if self._row_bytes is None else max(1, _MOST_BYTES // self._row_bytes)

    def _make(self, first: int, count: int) -> Decoded:
        made = self._gen._batch(first, count, self._ctx, self._split)
        if len(made.batch):
            self._row_bytes = max(1, made.batch.nbytes // len(made.batch))
        return made

    async def _due(self, most: int) -> int:
        """The number of rows to make now: with a rate, waits until there is one."""
        if self._gen.rate is None:
            # Gives the loop a turn: otherwise a fast reader would keep it from all others.
            await asyncio.sleep(0)
            return most
        clock = self._ctx.clock
        rate = self._gen.rate / self._gen.splits
        if self._begun is None:
            self._begun = clock.monotonic()
        while (due := int((clock.monotonic() - self._begun) * rate) - self._given) < 1:
            await clock.sleep(max(_TICK, (self._given + 1) / rate - (clock.monotonic() - self._begun)))
        return min(due, most)


def _events(start: int, interval: int, seed: int) -> dict[str, pl.Expr]:
    """Times in steps, and keys and values that look random: splitmix64 (Steele, Lea, Flood 2014) of the number."""
    index = pl.col(INDEX)

    def unsigned(value: int) -> pl.Expr:
        return pl.lit(value, dtype=pl.UInt64)

    mixed = (index.cast(pl.UInt64) + unsigned((seed + 1) & (2**64 - 1))) * unsigned(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed // unsigned(2**shift))) * unsigned(factor)
    mixed = mixed ^ (mixed // unsigned(2**31))
    return {
        "ts": (index * interval + start).cast(EVENT_TIME_TYPE),
        "key": pl.format("key-{}", (mixed % unsigned(100)).cast(pl.String).str.zfill(2)),
        "value": (mixed // unsigned(2**11)).cast(pl.Float64) / 2**53,
    }
