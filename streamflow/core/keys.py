"""Keys to key groups: a hash that is the same in every process, version and platform, and the owner of each group.

A key group is the unit of state and of rescaling: `hash(key) % max_parallelism`. The hash is XXH64 (seed 0)
of a canonical text or binary form of the key, so neither Python's salted `hash()` nor an engine's internal
one is involved. Numbers that are equal have the same form whatever their type is, because a key function may
give 1 now and 1.0 later.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, Final, cast, overload

import polars as pl

from streamflow.core.struct_fields import field_expressions
from streamflow.errors import JobDefinitionError, unknown_name

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

__all__ = [
    "MAX_PARALLELISM_LIMIT",
    "key_group_of",
    "key_group_range",
    "key_groups",
    "key_hashes",
    "subtask_of",
]

MAX_PARALLELISM_LIMIT: Final = 1 << 15
"""The largest `max_parallelism`: a group takes two bytes in a state key."""

_PRIME: Final = 2**31 - 1
_FACTOR: Final = 1_812_433_253 % _PRIME
_NULL: Final = 0x9E37_79B9_7F4A_7C15
_WHOLE_BELOW: Final = 2.0**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)


def key_groups(frame: pl.DataFrame, keys: Sequence[str], max_parallelism: int) -> pl.Series:
    """The key group of each row: UInt16, named `key_group`, as long as the frame; null keys have a group too.

    Several key columns count in order, and `("ab", "c")` is another key than `("a", "bc")`. Raises
    JobDefinitionError for a column that is not there or whose type cannot be a key (Object). Costs about 10
    ns a key for one text column.

    >>> frame = pl.DataFrame({"origin": ["JFK", "LGA", "JFK", None]})
    >>> key_groups(frame, ["origin"], 128).to_list()
    [36, 109, 36, 21]
    """
    frame, columns = _key_columns(frame, keys)
    return frame.select(_group_expression(columns, max_parallelism)).to_series()


def key_hashes(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """The hash of each row's key: UInt64, as long as the frame, never null. Errors and costs as of `key_groups`.

    >>> frame = pl.DataFrame({"origin": ["JFK", None]})
    >>> (key_hashes(frame, ["origin"]) % 128).to_list()
    [36, 21]
    """
    frame, columns = _key_columns(frame, keys)
    return frame.select(_hash_expression(columns)).to_series()


def key_group_of(value: object, max_parallelism: int) -> int:
    """The key group of one Python value, the same as `key_groups` gives its column; a tuple is several key
    columns.

    For tests, queries and single look-ups; tens of microseconds, because the hash is the vectorised one. Raises
    JobDefinitionError for a value that no key column can hold.

    >>> key_group_of("JFK", 128), key_group_of(1, 128) == key_group_of(1.0, 128)
    (36, True)
    """
    _check_max_parallelism(max_parallelism)
    return _digest(value) % max_parallelism


def key_group_range(subtask: int, parallelism: int, max_parallelism: int) -> range:
    """The groups that `subtask` i of `parallelism` p owns: ⌈i·M/p⌉ to ⌈(i+1)·M/p⌉ − 1, with M = `max_parallelism`.

    >>> [key_group_range(i, 3, 8) for i in range(3)]
    [range(0, 3), range(3, 6), range(6, 8)]
    """
    _check_parallelism(parallelism, max_parallelism)
    if not 0 <= subtask < parallelism:
        raise JobDefinitionError(f"subtask {subtask} is not one of 0 to {parallelism - 1}")
    return range(
        -(-subtask * max_parallelism // parallelism), -(-(subtask + 1) * max_parallelism // parallelism)
    )


@overload
def subtask_of(group: int, parallelism: int, max_parallelism: int) -> int: ...
@overload
def subtask_of(group: pl.Series, parallelism: int, max_parallelism: int) -> pl.Series: ...
def subtask_of(group: int | pl.Series, parallelism: int, max_parallelism: int) -> int | pl.Series:
    """The subtask that owns a key group, or a UInt16 series of them for a series of groups.

    >>> subtask_of(5, 3, 8), subtask_of(pl.Series([0, 3, 7]), 3, 8).to_list()
    (1, [0, 1, 2])
    """
    _check_parallelism(parallelism, max_parallelism)
    if isinstance(group, pl.Series):
        wide: pl.Series = group.cast(pl.UInt32)
        return (wide * parallelism // max_parallelism).cast(pl.UInt16)
    if not 0 <= group < max_parallelism:
        raise JobDefinitionError(f"key group {group} is not one of 0 to {max_parallelism - 1}")
    return group * parallelism // max_parallelism


def _check_max_parallelism(max_parallelism: int) -> None:
    if not 1 <= max_parallelism <= MAX_PARALLELISM_LIMIT:
        raise JobDefinitionError(
            f"max_parallelism is {max_parallelism}",
            hint=f"use 1 to {MAX_PARALLELISM_LIMIT}; the default is 128",
        )


def _check_parallelism(parallelism: int, max_parallelism: int) -> None:
    _check_max_parallelism(max_parallelism)
    if not 1 <= parallelism <= max_parallelism:
        raise JobDefinitionError(
            f"parallelism is {parallelism}",
            hint=f"use 1 to {max_parallelism}, the max_parallelism of this job",
        )


def _key_columns(
    frame: pl.DataFrame, keys: Sequence[str]
) -> tuple[pl.DataFrame, tuple[tuple[str, pl.DataType], ...]]:
    """A frame with the key columns, and their names and types there: Polars takes some names for patterns."""
    columns = tuple((name, _dtype(frame, name)) for name in keys)
    if not any(name.startswith(("*", "^")) for name in keys):
        return frame, columns
    numbered = frame[list(keys)]
    numbered.columns = [str(number) for number in range(len(keys))]
    return numbered, tuple((str(number), dtype) for number, (_, dtype) in enumerate(columns))


def _dtype(frame: pl.DataFrame, name: str) -> pl.DataType:
    dtype = frame.schema.get(name)
    if dtype is None:
        message, hint = unknown_name("column", name, frame.columns)
        raise JobDefinitionError(message, hint=hint)
    return dtype


# The vectorised form. A digest is a UInt64 per row, never null.


@lru_cache(maxsize=256)
def _group_expression(columns: tuple[tuple[str, pl.DataType], ...], max_parallelism: int) -> pl.Expr:
    """The expression for the group; cached, because building one with a plugin costs as much as hashing thousands of
    keys."""
    _check_max_parallelism(max_parallelism)
    return (_hash_expression(columns) % max_parallelism).cast(pl.UInt16).alias("key_group")


@lru_cache(maxsize=256)
def _hash_expression(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.Expr:
    if not columns:
        raise JobDefinitionError("no key columns given", hint="name at least one column")
    digests = [_digest_expression(pl.col(name), dtype) for name, dtype in columns]
    return _combine_expressions(digests).alias("key_hash")


def _xxhash64(text: pl.Expr) -> pl.Expr:
    import polars_hash  # registers the `nchash` namespace; slow to import, so only where keys are hashed

    assert polars_hash.__name__
    hashing: Any = text
    digest: pl.Expr = hashing.nchash.xxhash64(seed=0)
    return digest.fill_null(pl.lit(_NULL, dtype=pl.UInt64))


def _combine_expressions(digests: Sequence[pl.Expr]) -> pl.Expr:
    """One digest of several: a polynomial modulo a prime, small enough never to overflow 64 bits; one digest is
    itself."""
    if len(digests) == 1:
        return digests[0]
    return reduce(
        lambda total, digest: (total * _FACTOR + digest % _PRIME) % _PRIME, digests, pl.lit(0, pl.UInt64)
    )


def _digest_expression(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Struct):
        # By name, because equal dicts may differ in the order of their entries.
        fields = [
            _digest_expression(value, inner)
            for _, inner, value in sorted(field_expressions(column, dtype), key=lambda field: field[0])
        ]
        if not fields:
            raise JobDefinitionError("a struct without fields cannot be a key")
        return (
            pl.when(column.is_null()).then(pl.lit(_NULL, pl.UInt64)).otherwise(_combine_expressions(fields))
        )
    if isinstance(dtype, (pl.List, pl.Array)):
        items = column.arr.to_list() if isinstance(dtype, pl.Array) else column
        digests = items.list.eval(_digest_expression(pl.element(), _resolved(dtype.inner)).cast(pl.String))
        return _xxhash64(pl.format("[{}]", digests.list.join(",")))
    return _xxhash64(_canonical(column, dtype))


def _resolved(dtype: PolarsDataType) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _canonical(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The text or binary form of a value that is hashed; null stays null."""
    if isinstance(dtype, (pl.String, pl.Binary)):
        return column
    if isinstance(dtype, (pl.Categorical, pl.Enum, pl.Null)) or dtype.is_integer():
        return column.cast(pl.String)
    if isinstance(dtype, pl.Boolean):
        return column.cast(pl.UInt8).cast(pl.String)
    if dtype.is_float():
        return _canonical_float(column.cast(pl.Float64))
    if isinstance(dtype, pl.Decimal):
        text = column.cast(pl.String)
        return text.str.strip_chars_end("0").str.strip_chars_end(".") if dtype.scale else text
    if isinstance(dtype, (pl.Datetime, pl.Duration)):
        count = column.to_physical()
        micros = {"ns": count // 1_000, "us": count, "ms": count * 1_000}[dtype.time_unit]
        return micros.cast(pl.String)
    if isinstance(dtype, (pl.Date, pl.Time)):
        return column.to_physical().cast(pl.String)
    raise JobDefinitionError(
        f"a column of type {dtype} cannot be a key",
        hint="make it text, a number, a time, or a struct of those",
    )


def _canonical_float(column: pl.Expr) -> pl.Expr:
    """Floats for hashing: integral values as integers (so −0.0 is 0), the rest by their bits, since float text may
    change."""
    whole = (column.floor() == column) & (column.abs() < _WHOLE_BELOW)
    return (
        pl.when(whole)
        .then(column.cast(pl.Int64, strict=False).cast(pl.String))
        .when(column.is_nan())
        .then(pl.lit("nan"))
        .otherwise(pl.format("f{}", column.reinterpret(dtype=pl.UInt64)))
    )


# The same for one Python value.


def _digest(value: object) -> int:
    if value is None:
        return _NULL
    if isinstance(value, tuple):
        return _combine([_digest(item) for item in cast("tuple[object, ...]", value)])
    if isinstance(value, Mapping):
        return _combine([_digest(item) for _, item in sorted(cast("Mapping[str, object]", value).items())])
    if isinstance(value, list):
        return _hash_one(f"[{','.join(str(_digest(item)) for item in cast('list[object]', value))}]")
    return _hash_one(_canonical_value(value))


def _combine(digests: Sequence[int]) -> int:
    if not digests:
        raise JobDefinitionError("an empty tuple or dict cannot be a key")
    if len(digests) == 1:
        return digests[0]
    return reduce(lambda total, digest: (total * _FACTOR + digest) % _PRIME, digests, 0)


def _hash_one(form: str | bytes) -> int:
    try:
        digest = pl.select(_xxhash64(pl.lit(pl.Series([form])))).item()
    except UnicodeEncodeError as error:
        raise JobDefinitionError(f"the text {form!r} cannot be a key: {error}") from error
    return int(digest)


def _canonical_value(value: object) -> str | bytes:
    match value:
        case str() | bytes():
            return value
        case bool() | int():
            return str(int(value))
        case float():
            return _canonical_number(value)
        case Decimal() if value.is_finite():
            text = format(value, "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        case datetime():
            return str((value.replace(tzinfo=value.tzinfo or UTC) - _EPOCH) // _MICRO)
        case date():
            return str(value.toordinal() - _EPOCH.toordinal())
        case time() if value.tzinfo is None:
            return str(
                (value.hour * 3600 + value.minute * 60 + value.second) * 10**9 + value.microsecond * 1_000
            )
        case timedelta():
            return str(value // _MICRO)
        case _:
            raise JobDefinitionError(
                f"a {type(value).__name__} cannot be a key",
                hint="use text, a number, a time, or a tuple of those",
            )


def _canonical_number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if abs(value) < _WHOLE_BELOW and value.is_integer():
        return str(int(value))
    return f"f{struct.unpack('<Q', struct.pack('<d', value))[0]}"
