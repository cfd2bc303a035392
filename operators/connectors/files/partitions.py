"""Partition folders as Hive has them: `origin=JFK/day=2013-01-01/`, each value as text, escaped so that it stays one
name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final
from urllib.parse import quote, unquote

import polars as pl

from streamflow.errors import JobDefinitionError, RecordError, cut
from streamflow.operators.connectors.text_columns import as_text_carries

__all__ = ["check_partition", "folder_of", "partitioned", "values_of"]

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
