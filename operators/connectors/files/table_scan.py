"""Parquet and Arrow IPC files: columns and rows picked by Polars while it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from streamflow.errors import SourceError, unknown_name
from streamflow.operators.connectors.blocking_steps import BlockingSteps
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats import FileFormat
from streamflow.operators.source import Decoded, Fetch, SourceContext
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch

__all__ = ["TableReader", "count_rows", "fitting_columns", "scan_table"]

_MOST_ROWS = 131_072


def scan_table(path: str, format: FileFormat) -> pl.LazyFrame:
    """A lazy frame over one file, its schema already read; raises SourceError where that fails."""
    try:
        with reading(path):
            scan = pl.scan_parquet(path, glob=False) if format == "parquet" else pl.scan_ipc(path, glob=False)
            scan.collect_schema()
            return scan
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{path!r} is not a whole {format} file: {str(error).splitlines()[0]}",
            hint="the file is damaged, cut off or of another format",
        ) from error


def count_rows(path: str, format: FileFormat) -> int:
    """From the file's metadata."""
    return int(scan_table(path, format).select(pl.len()).collect().item())


def fitting_columns(
    path: str, format: FileFormat, schema: Mapping[str, pl.DataType], columns: Sequence[str], *, cast: bool
) -> pl.LazyFrame:
    """The columns asked for, with the schema's types. A type that differs is an error unless `cast`."""
    scan = scan_table(path, format)
    there = scan.collect_schema()
    chosen: list[pl.Expr] = []
    for name in columns:
        if name not in there:
            message, hint = unknown_name("column", name, there.names())
            raise SourceError(f"{path!r} has {message}", hint=hint)
        if there[name] != schema[name] and not cast:
            raise SourceError(
                f"{path!r}: column {name!r} is {there[name]} where {schema[name]} was expected",
                hint="the files differ: say the types with schema={…}",
            )
        chosen.append(pl.col(name).cast(schema[name]) if there[name] != schema[name] else pl.col(name))
    return scan.select(chosen)


class TableReader:
    """Fetches batches of rows, from row `start` up to `end`. Position: the next row."""

    def __init__(
        self, path: str, frame: pl.LazyFrame, start: int, end: int, ctx: SourceContext, *, objects: bool
    ) -> None:
        self._path = path
        self._row = start
        self._objects = objects
        self._steps = BlockingSteps(ctx.run_blocking)
        rows = min(ctx.batch_rows, _MOST_ROWS)
        self._batches = frame.slice(start, end - start).collect_batches(chunk_size=rows, maintain_order=True)

    async def fetch(self) -> Fetch | None:
        frame = await self._steps.run(self._next)
        if frame is None:
            return None
        self._row += frame.height
        batch = FrameBatch(frame)
        return Fetch(lambda: Decoded(self._decode(batch)), {"row": self._row}, batch.nbytes)

    async def close(self) -> None:
        await self._steps.close()

    def _decode(self, batch: FrameBatch) -> AnyBatch:
        return RowBatch(batch.frame.to_dicts()) if self._objects else batch

    def _next(self) -> pl.DataFrame | None:
        try:
            with reading(self._path):
                return next(self._batches, None)
        except pl.exceptions.PolarsError as error:
            raise SourceError(
                f"{self._path!r} cannot be read behind row {self._row}: {str(error).splitlines()[0]}",
                hint="the file is damaged, or a value does not fit the type that the schema gives",
            ) from error
