"""Partition folders as Hive has them: `origin=JFK/day=2013-01-01/`, each value as text, escaped so that it stays one
name; written from columns, and read as columns with the same value for every row of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Final
from urllib.parse import quote, unquote

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.errors import JobDefinitionError, RecordError, SourceError, cut
from streamflow.operators.connectors.files.formats.wire_types import AS_TEXT, convert_where_possible
from streamflow.operators.connectors.text_columns import as_text_carries
from streamflow.operators.contract.source import Decoded, Fetch, SplitReader

__all__ = [
    "WithPartitions",
    "check_partition",
    "folder_of",
    "partition_types",
    "partitioned",
    "typed_partitions",
    "values_of",
]

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_LONGEST: Final = 255
"""Bytes of a name, on nearly every file system."""


def check_partition(name: str, dtype: pl.DataType) -> None:
    """Raises JobDefinitionError for a column whose values cannot name folders."""
    if dtype.is_nested() or isinstance(dtype, (pl.Binary, pl.Object)):
        raise JobDefinitionError(
            f"column {name!r} ({dtype}) cannot name folders",
            hint="partition by a column of text, numbers or times",
        )
    if len(_escaped(name)) + 1 > _LONGEST:
        raise JobDefinitionError(f"{cut(name, 40)} is too long to name folders", hint="rename the column")


def partitioned(frame: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """(folder, its rows without the columns in its name); one folder "" without such columns.

    Raises RecordError for a value that cannot name a folder.
    """
    if not by:
        yield "", frame
        return
    texts = as_text_carries(frame.select(by))
    keys = [texts[name].cast(pl.String).alias(f"\0{number}") for number, name in enumerate(by)]
    keyed = frame.drop(by).hstack(keys)
    parts = keyed.partition_by(
        [key.name for key in keys], as_dict=True, include_key=False, maintain_order=True
    )
    for values, part in parts.items():
        yield folder_of(by, values), part


def folder_of(names: Sequence[str], values: Sequence[str | None]) -> str:
    """The folder of one combination of values, given as text; raises RecordError if they cannot name one.

    >>> folder_of(["origin", "via"], ["../etc", None])
    'origin=..%2Fetc/via=__HIVE_DEFAULT_PARTITION__'
    """
    return "/".join(map(_folder, names, values))


def _folder(name: str, value: str | None) -> str:
    if value == _NULL:
        raise RecordError(
            f"column {name!r} holds {value!r}, which stands for null in the names of folders",
            record={name: value},
            hint="partition by another column, or replace the value",
        )
    folder = f"{_escaped(name)}={_NULL if value is None else quote(value, safe='')}"
    if len(folder) > _LONGEST:
        raise RecordError(
            f"column {name!r} holds {cut(value, 60)}, which makes a name of {len(folder)} bytes for a folder, "
            f"where {_LONGEST} are the most",
            record={name: value},
            hint="partition by another column, or shorten the value",
        )
    return folder


def _escaped(name: str) -> str:
    """A column's name as the beginning of a folder's name, escaped so that no reader takes the folder for hidden."""
    escaped = quote(name, safe="")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def values_of(path: str) -> Mapping[str, str | None]:
    """The column values in the names of a path's folders, as text. Escapes that are no UTF-8 stay as they are.

    >>> dict(values_of("out/origin=..%2Fetc/via=__HIVE_DEFAULT_PARTITION__/part.csv"))
    {'origin': '../etc', 'via': None}
    """
    pairs = [part.partition("=") for part in PurePath(path).parts[:-1] if "=" in part]
    return {_unescaped(name): None if value == _NULL else _unescaped(value) for name, _, value in pairs}


def _unescaped(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


_INTEGER = r"^(0|-?[1-9]\d{0,18})$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_UTC = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"


def partition_types(files: Sequence[Mapping[str, str | None]]) -> dict[str, pl.DataType]:
    """The types of the columns that the folders of some files name: integers that Int64 holds, days or times in UTC if
    all values are written as such, else text.

    >>> partition_types([{"n": "7", "zip": "007"}, {"n": None, "zip": "10"}])
    {'n': Int64, 'zip': String}
    """
    found: dict[str, pl.DataType] = {}
    for name in dict.fromkeys(name for values in files for name in values):
        texts = pl.Series([values.get(name) for values in files], dtype=pl.String).drop_nulls()
        forms = {_INTEGER: pl.Int64(), _DATE: pl.Date(), _UTC: EVENT_TIME_TYPE}
        fits = (dtype for form, dtype in forms.items() if len(texts) and texts.str.contains(form).all())
        dtype = next(fits, pl.String())
        large = dtype == pl.Int64() and texts.cast(dtype, strict=False).has_nulls()
        found[name] = pl.String() if large else dtype
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
