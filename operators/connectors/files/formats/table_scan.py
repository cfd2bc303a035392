"""Parquet and Arrow IPC files: columns and rows picked by Polars while it reads."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_row, unheld
from streamflow.errors import RecordError, SourceError, Where, unknown_name
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.formats import FileFormat
from streamflow.operators.connectors.files.formats.table_casts import cast_exactly, castable
from streamflow.operators.connectors.files.formats.wire_types import without_rows
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Decoded, Fetch, SourceContext

__all__ = ["TableReader", "count_rows", "fitting_columns", "scan_table"]

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
