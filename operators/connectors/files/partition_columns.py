"""Columns from the names of folders (`origin=JFK/`): their types, and the same value for every row of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.errors import SourceError, cut
from streamflow.operators.connectors.files.formats.wire_types import AS_TEXT, convert_where_possible
from streamflow.operators.contract.source import Decoded, Fetch, SplitReader

__all__ = ["WithPartitions", "partition_types", "typed_partitions"]

_INTEGER = r"^(0|-?[1-9]\d{0,17})$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_UTC = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"


def partition_types(files: Sequence[Mapping[str, str | None]]) -> dict[str, pl.DataType]:
    """The types of the columns that the folders of some files name: integers, days or times in UTC if all values are
    written as such, else text.

    >>> partition_types([{"n": "7", "zip": "007"}, {"n": None, "zip": "10"}])
    {'n': Int64, 'zip': String}
    """
    found: dict[str, pl.DataType] = {}
    for name in dict.fromkeys(name for values in files for name in values):
        texts = pl.Series([values.get(name) for values in files], dtype=pl.String).drop_nulls()
        forms = {_INTEGER: pl.Int64(), _DATE: pl.Date(), _UTC: EVENT_TIME_TYPE}
        fits = (dtype for form, dtype in forms.items() if len(texts) and texts.str.contains(form).all())
        found[name] = next(fits, pl.String())
    return found


def typed_partitions(
    values: Mapping[str, str | None], schema: Mapping[str, pl.DataType], path: str
) -> pl.DataFrame:
    """One row with the values of a file's folders; raises SourceError for one that does not fit its type."""
    columns: dict[str, pl.Series] = {}
    for name, dtype in schema.items():
        text = pl.Series(name, [values[name]], dtype=pl.String)
        if isinstance(dtype, pl.Boolean):
            typed = pl.Series(name, [{"true": True, "false": False}.get(text[0])], dtype=dtype)
        elif isinstance(dtype, AS_TEXT):
            typed = convert_where_possible(text.to_frame(), {name: dtype})[name]
        elif isinstance(dtype, pl.Duration):
            typed = text.cast(pl.Int64, strict=False).cast(dtype)
        else:
            typed = text.cast(dtype, strict=False)
        if typed[0] is None and text[0] is not None:
            raise SourceError(
                f"{path!r}: the folder says {name}={cut(text[0], 60)}, which is no {dtype}",
                hint="give the column another type: schema={…}",
            )
        columns[name] = typed
    return pl.DataFrame(columns)


class WithPartitions:
    """A reader that adds the columns of one row to another reader's frames, and gives the columns asked for."""

    def __init__(self, reader: SplitReader, row: pl.DataFrame, columns: Sequence[str]) -> None:
        self._reader = reader
        self._row = row
        self._columns = list(columns)

    async def fetch(self) -> Fetch | None:
        fetched = await self._reader.fetch()
        if fetched is None:
            return None
        decode = fetched.decode
        return Fetch(lambda: self._widened(decode()), fetched.position, fetched.nbytes)

    async def close(self) -> None:
        await self._reader.close()

    def _widened(self, decoded: Decoded) -> Decoded:
        assert isinstance(decoded.batch, FrameBatch)
        frame = decoded.batch.frame
        values = [pl.lit(self._row[name]).first().alias(name) for name in self._row.columns]
        return replace(decoded, batch=FrameBatch(frame.with_columns(values).select(self._columns)))
