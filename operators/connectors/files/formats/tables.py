"""Parquet and Arrow IPC files: columns and rows picked by Polars while it reads, cast without any change of a value."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_row, unheld
from streamflow.errors import RecordError, SourceError, Where, unknown_name
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.formats import FileFormat
from streamflow.operators.connectors.files.formats.wire_types import (
    AS_TEXT,
    INFINITY,
    convert_where_possible,
    fields_of,
    inner_of,
    shown,
    without_rows,
)
from streamflow.operators.connectors.text_columns import as_text_carries
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded, Fetch, SourceContext

__all__ = ["TableReader", "cast_exactly", "castable", "count_rows", "fitting_columns", "scan_table"]

_MOST_ROWS = 131_072


def scan_table(path: str, format: FileFormat) -> pl.LazyFrame:
    """A lazy frame over one file, its schema already read; raises SourceError if that fails."""
    with _whole(path, f"is not a whole {format} file"):
        scan = pl.scan_parquet(path, glob=False) if format == "parquet" else pl.scan_ipc(path, glob=False)
        scan.collect_schema()
        return scan


def count_rows(path: str, format: FileFormat) -> int:
    """The number of rows, from the file's metadata."""
    scan = scan_table(path, format)
    with _whole(path, f"is not a whole {format} file"):
        return int(scan.select(pl.len()).collect().item())


@contextmanager
def _whole(path: str, what: str) -> Generator[None]:
    """Maps Polars' exceptions for damaged files, panics included."""
    try:
        with reading(path):
            yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        raise SourceError(
            f"{path!r} {what}: {(str(error) or type(error).__name__).splitlines()[0]}",
            hint="the file is damaged, cut off or of another format",
        ) from error


def fitting_columns(
    path: str, scan: pl.LazyFrame, columns: Mapping[str, pl.DataType], *, cast: bool
) -> pl.LazyFrame:
    """The columns asked for, as they are in the file. A type that differs is an error, unless `cast` and some of its
    values may fit."""
    there = scan.collect_schema()
    for name, dtype in columns.items():
        if name not in there:
            message, hint = unknown_name("column", name, there.names())
            raise SourceError(f"{path!r} has {message}", hint=hint)
        if there[name] != dtype and not (cast and castable(there[name], dtype)):
            raise SourceError(
                f"{path!r}: column {name!r} is {there[name]} where {dtype} was expected",
                hint="give the column a type that holds its values"
                if cast
                else "the files differ: give the types with schema={…}",
            )
    # Rows are read even if no column is wanted.
    return scan.select(list(columns) or there.names()[:1])


class TableReader:
    """A reader of batches of rows, from row `start` up to `end`, with these columns, or as objects without. Position:
    the next row."""

    def __init__(
        self,
        path: str,
        frame: pl.LazyFrame,
        start: int,
        end: int,
        ctx: SourceContext,
        columns: Mapping[str, pl.DataType] | None,
    ) -> None:
        self._path = path
        self._row = start
        self._columns = columns
        self._fits: bool | None = None
        self._on_error: ErrorPolicy = ctx.on_error
        self._steps = BlockingSteps(ctx.run_blocking)
        rows = min(ctx.batch_rows, _MOST_ROWS)
        self._batches = frame.slice(start, end - start).collect_batches(chunk_size=rows, maintain_order=True)

    async def fetch(self) -> Fetch | None:
        frame = await self._steps.run(self._next)
        if frame is None:
            return None
        first, self._row = self._row, self._row + frame.height
        return Fetch(lambda: self._decode(frame, first), {"row": self._row}, FrameBatch(frame).nbytes)

    async def close(self) -> None:
        await self._steps.close()

    def _decode(self, frame: pl.DataFrame, first: int) -> Decoded:
        if self._columns is None:
            bad = unheld(frame)
            held = without_rows(frame, self._judged(bad, first)) if bad else frame
            return Decoded(RowBatch(held.to_dicts()), list(bad.values()))
        if not self._columns or self._as_wanted(frame):
            return Decoded(FrameBatch(frame))
        typed, problems = cast_exactly(frame, self._columns)
        bad = {
            row: RecordError(problem, record=shown_row(frame, row))
            for row, problem in sorted(problems.items())
        }
        held = without_rows(typed, self._judged(bad, first)) if bad else typed
        return Decoded(FrameBatch(held), list(bad.values()))

    def _judged(self, bad: Mapping[int, RecordError], first: int) -> Mapping[int, RecordError]:
        """Bad records with their row numbers in the file; raises the first under "fail"."""
        for row, error in bad.items():
            error.at(Where(split=self._path, offset=f"row {first + row}"))
            if self._on_error == "fail":
                raise error
        return bad

    def _as_wanted(self, frame: pl.DataFrame) -> bool:
        """Whether the types are those of the schema; all frames of one file have the same."""
        if self._fits is None:
            self._fits = dict(frame.schema) == self._columns
        return self._fits

    def _next(self) -> pl.DataFrame | None:
        with _whole(self._path, f"cannot be read behind row {self._row}"):
            return next(self._batches, None)


_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RecordError)
_TEXT = (pl.String, pl.Enum, pl.Categorical)


def castable(held: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether some values of one type can be read as the other. An integer is no time, no duration and no boolean:
    its unit would be a guess.

    >>> castable(pl.Float64(), pl.Int8()), castable(pl.Int64(), pl.Datetime())
    (True, False)
    """
    if isinstance(held, (pl.List, pl.Array)) and isinstance(wanted, (pl.List, pl.Array)):
        return _castable_inside(inner_of(held), inner_of(wanted))
    if isinstance(held, pl.Struct) and isinstance(wanted, pl.Struct):
        there = fields_of(held)
        return all(
            name not in there or _castable_inside(there[name], dtype)
            for name, dtype in fields_of(wanted).items()
        )
    if held == wanted or isinstance(held, pl.Null):
        return True
    if isinstance(wanted, pl.String):
        return not (held.is_nested() or isinstance(held, (pl.Duration, pl.Object)))
    if isinstance(held, _TEXT):
        return wanted.is_numeric() or isinstance(wanted, (*_TEXT, pl.Binary, *AS_TEXT))
    if held.is_numeric():
        return wanted.is_numeric()
    days = (pl.Datetime, pl.Date)
    return any(
        isinstance(held, kinds) and isinstance(wanted, kinds) for kinds in (days, pl.Duration, pl.Time)
    )


def _castable_inside(held: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether `castable` holds within lists and structs, where times become no text, text and floats no times and
    decimals, and choices no numbers."""
    if isinstance(wanted, pl.String) and isinstance(held, AS_TEXT[:-1]):
        return False
    if isinstance(wanted, AS_TEXT) and (isinstance(held, _TEXT) or held.is_float()):
        return False
    if isinstance(held, _TEXT[1:]) and not isinstance(wanted, _TEXT):
        return False
    return castable(held, wanted)


def cast_exactly(
    frame: pl.DataFrame, wanted: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """The frame with these types and all its rows, and error texts by row for values that do not fit.

    >>> cast_exactly(pl.DataFrame({"n": [1.0, 1.5]}), {"n": pl.Int64()})[1]
    {1: "column 'n' holds 1.5, which is no Int64"}
    """
    problems: dict[int, str] = {}
    columns: dict[str, pl.Series] = {}
    for name, dtype in wanted.items():
        held = frame[name]
        if held.dtype == dtype:
            columns[name] = held
            continue
        typed, bad = _cast(held, dtype)
        columns[name] = typed
        for row in bad:
            problems.setdefault(row, f"column {name!r} holds {shown(held, row)}, which is no {dtype}")
    return pl.DataFrame(columns), problems


def _cast(held: pl.Series, wanted: pl.DataType) -> tuple[pl.Series, list[int]]:
    typed = _halfwise(held, wanted)
    return typed, _changed(held, typed).arg_true().to_list()


def _halfwise(held: pl.Series, wanted: pl.DataType) -> pl.Series:
    """The column with null for values that do not fit. One value, as of a list too long for an array, may fail the
    cast of all."""
    try:
        if isinstance(wanted, pl.Decimal) and held.dtype.is_float():
            held = _written_out(held)
        if isinstance(held.dtype, _TEXT) and isinstance(wanted, AS_TEXT):
            texts = held.cast(pl.String).to_frame()
            return convert_where_possible(texts, {held.name: wanted})[held.name]
        if isinstance(wanted, pl.String):
            held = as_text_carries(held.to_frame())[held.name]
        return held.cast(wanted, strict=False)
    except _FAILURES:
        if len(held) == 1:
            return pl.Series(held.name, [None], dtype=wanted)
        middle = len(held) // 2
        return pl.concat([_halfwise(held[:middle], wanted), _halfwise(held[middle:], wanted)])


def _written_out(floats: pl.Series) -> pl.Series:
    """Floats as text without an exponent: Polars' cast makes 0.99…9 of 1.0 in a decimal with many places."""
    texts = floats.cast(pl.String)
    with_exponents = floats.filter(texts.str.contains("e"))
    written = [
        f"{Decimal(value if value.is_integer() else repr(value)):f}" for value in with_exponents.to_list()
    ]
    return texts.replace(with_exponents.cast(pl.String), pl.Series(written, dtype=pl.String))


def _changed(held: pl.Series, typed: pl.Series) -> pl.Series:
    """A mask of changed values. A float that is rounded to a shorter one is meant to be; one that overflows is
    changed."""
    gone = typed.is_null() & held.is_not_null()
    if typed.dtype.is_float() and (held.dtype.is_float() or isinstance(held.dtype, _TEXT)):
        finite = held.is_finite() if held.dtype.is_float() else ~held.cast(pl.String).str.contains(INFINITY)
        return gone | (typed.is_infinite() & finite).fill_null(value=False)
    if isinstance(typed.dtype, _TEXT) or isinstance(held.dtype, _TEXT):
        return gone
    asked = held.cast(_asked_of(held.dtype, typed.dtype), strict=False)
    return gone | typed.cast(asked.dtype, strict=False).ne_missing(asked)


def _asked_of(held: pl.DataType, wanted: pl.DataType) -> pl.DataType:
    """The type without struct fields that were not asked for."""
    if isinstance(held, (pl.List, pl.Array)) and isinstance(wanted, (pl.List, pl.Array)):
        return pl.List(_asked_of(inner_of(held), inner_of(wanted)))
    if isinstance(held, pl.Struct) and isinstance(wanted, pl.Struct):
        asked = fields_of(wanted)
        return pl.Struct(
            {n: _asked_of(dtype, asked[n]) for n, dtype in fields_of(held).items() if n in asked}
        )
    return held
