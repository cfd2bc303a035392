"""Python values as columns of a given type, strictly: a value is stored as it is, or it does not fit.

Polars itself is lenient where it builds columns of Python values: True as 1, a count as a time, 1.5 as 1 within a
struct. Here nothing is cut, rounded, or read as something else. An integer fits a column of floats that can hold it
exactly, ISO 8601 text a column of times; a time without a zone is in UTC.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import polars as pl

from streamflow.core.python_times import any_unheld, shown_row, unheld_rows
from streamflow.errors import JobDefinitionError, cut, unknown_name
from streamflow.user_code import described, raised_by_user

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

__all__ = ["EXACT", "UNFIT_ERRORS", "field_of", "framed", "strict_column", "strict_frame", "type_instance"]

Convert = Callable[[Any], Any]
"""A function from a value that is not None to the column's value; raises ValueError that says why it does not fit."""

Moment = TypeVar("Moment", dt.datetime, dt.date, dt.time)

EXACT: Final = 2**53
"""The largest number below which every integer is a float."""
_TOO_LARGE: Final = 3.4028235677973366e38
"""The smallest float that rounds to infinity in 32 bits."""
_PLAIN: Final[dict[type[pl.DataType], frozenset[type]]] = {
    **dict.fromkeys(
        (
            pl.Int8,
            pl.Int16,
            pl.Int32,
            pl.Int64,
            pl.Int128,
            pl.UInt8,
            pl.UInt16,
            pl.UInt32,
            pl.UInt64,
        ),
        frozenset({int}),
    ),
    pl.Float64: frozenset({float}),
    pl.Boolean: frozenset({bool}),
    pl.String: frozenset({str}),
    pl.Enum: frozenset({str}),
    pl.Categorical: frozenset({str}),
    pl.Binary: frozenset({bytes}),
    pl.Date: frozenset({dt.date}),
    pl.Object: frozenset({object}),
}
"""By type, the Python types that Polars takes unchanged or refuses; other values are examined one by one."""
_TRUTHS: Final = ("bool", "bool_")
"""Names of NumPy's boolean types."""
_FINER: Final = re.compile(r"[.,]\d{6}\d*[1-9]")
"""A pattern for more digits of a second than Python's times hold."""
UNFIT_ERRORS: Final = (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)


def strict_column(
    name: str, values: Sequence[Any], dtype: pl.DataType, *, whole: bool = False
) -> tuple[pl.Series, dict[int, str]]:
    """The values as a column of this type, with null for values that do not fit, and an error text for each by
    position. `whole`: a dict with a field that the struct lacks does not fit; otherwise the field is left out.

    >>> column, misfits = strict_column("n", [1, 1.5, None], pl.Int64())
    >>> column.to_list(), misfits
    ([1, None, None], {1: "'n' is 1.5 (float), not Int64"})
    """
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds:
        return pl.Series(name, values, dtype=dtype), {}
    microseconds = isinstance(dtype, pl.Datetime) and dtype.time_unit == "us" and kinds == {dt.datetime}
    if microseconds or kinds <= _PLAIN.get(type(dtype), frozenset()):
        try:
            column = pl.Series(name, values, dtype=dtype, strict=True)
            if column.dtype == dtype:
                return column, {}
        except UNFIT_ERRORS:
            pass  # some do not fit: the loop below finds which
    convert = converter(dtype, whole)
    misfits: dict[int, str] = {}
    converted: list[Any] = []
    for index, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(value))
        except (ValueError, OverflowError) as error:
            misfits[index] = (
                f"{name!r} is {error}" if isinstance(error, MisfitError) else f"{name!r}: {error}"
            )
            converted.append(None)
        except BaseException as raised:  # noqa: BLE001 — it may be of a user's class, which may raise anything
            misfits[index] = f"{name!r} cannot be read: {described(raised_by_user(raised))}"
            converted.append(None)
    return pl.Series(name, converted, dtype=dtype, strict=True), misfits


def strict_frame(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """The rows of a frame whose values fit these columns, and an error text for each other row by position. Columns
    that `schema` does not name are left out; raises JobDefinitionError for a missing one.

    >>> strict_frame(pl.DataFrame({"n": [1.5]}), {"n": pl.Int64()})[1]
    {0: "'n' is 1.5 (float), not Int64"}
    """
    columns: list[pl.Series] = []
    misfits: dict[int, str] = {}
    for name, dtype in schema.items():
        if name not in frame.columns:
            message, hint = unknown_name("column", name, frame.columns)
            raise JobDefinitionError(message, hint=hint)
        column = frame[name]
        if column.dtype != dtype and column.dtype.is_integer() and dtype.is_integer():
            wide = column.cast(dtype, strict=False)
            unfit = wide.is_null() & column.is_not_null()
            refused = {} if not unfit.any() else strict_column(name, column.to_list(), dtype)[1]
            column = wide
        elif column.dtype != dtype:
            held, others = _held(column, dtype)
            column, refused = strict_column(name, held.to_list(), dtype)
            refused |= others
        else:
            refused = {}
        columns.append(column)
        misfits = {**refused, **misfits}
    whole = framed(columns)
    if misfits:
        kept = [index not in misfits for index in range(whole.height)]
        whole = whole.filter(pl.Series(kept, dtype=pl.Boolean))
    return whole, misfits


def _held(column: pl.Series, wanted: pl.DataType) -> tuple[pl.Series, dict[int, str]]:
    """Values as Python can hold them, with null for times that it would cut, and an error text for each by position."""
    if not any_unheld(column):
        return column, {}
    others = {
        at: f"{column.name!r} is {cut(shown_row(column.to_frame(), at)[column.name], 60)}, not {wanted}: "
        "it is finer than a microsecond, or beyond the years 1 to 9999"
        for at in unheld_rows(column)
    }
    kept = pl.Series([at not in others for at in range(len(column))])
    return column.to_frame().select(pl.when(kept).then(pl.first())).to_series(), others


def framed(columns: Iterable[pl.Series]) -> pl.DataFrame:
    """A frame of columns by their names; from a list Polars would rename a column called "".

    >>> framed([pl.Series("", [1])]).columns
    ['']
    """
    return pl.DataFrame({column.name: column for column in columns})


def field_of(value: Any, name: str) -> Any:
    """A field of a dict, dataclass or named tuple; None if it lacks the field. Raises ValueError for any other value.

    >>> field_of({"a": 1}, "a"), field_of({"a": 1}, "b")
    (1, None)
    """
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        return getattr(value, name, None)
    raise MisfitError(value, "a dict")


def type_instance(dtype: PolarsDataType) -> pl.DataType:
    """The type as an instance; a type without parameters may be given as its class.

    >>> type_instance(pl.Int64) == pl.Int64()
    True
    """
    return dtype if isinstance(dtype, pl.DataType) else dtype()


class MisfitError(ValueError):
    """A value that does not fit."""

    def __init__(self, value: object, wanted: object, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(f"{cut(repr(value), 60)} ({type(value).__name__}), not {wanted}{reason}")


@cache
def converter(dtype: pl.DataType, whole: bool = False) -> Convert:
    """The function that turns a Python value into the column's; `whole` as in `strict_column`."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return _list(dtype, whole)
    if isinstance(dtype, pl.Struct):
        return _struct(dtype, whole)
    for kind, make in _CONVERTERS.items():
        if isinstance(dtype, kind):
            return make(dtype)
    if dtype.is_integer():
        return _integer(dtype)
    return _float(dtype) if dtype.is_float() else lambda value: value


def _whole(value: Any) -> int | None:
    """The value as Python's own int; None for anything else, booleans too."""
    if isinstance(value, bool) or type(value).__name__ in _TRUTHS or not hasattr(value, "__index__"):
        return None
    return int(value)


def _integer(dtype: pl.DataType) -> Convert:
    signed = dtype.is_signed_integer()
    bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def convert(value: Any) -> int:
        number = _whole(value)
        if number is None:
            raise MisfitError(value, dtype)
        if not low <= number <= high:
            raise MisfitError(value, dtype, f"{low} to {high} fit")
        return number

    return convert


def _float(dtype: pl.DataType) -> Convert:
    limit = _TOO_LARGE if dtype == pl.Float32() else math.inf

    def convert(value: Any) -> float:
        if isinstance(value, float):
            number = float(value)
        else:
            whole = _whole(value)
            if whole is None and type(value).__name__ in ("float32", "float16"):
                number = float(value)
            elif whole is None:
                raise MisfitError(value, dtype)
            elif abs(whole) > EXACT and int(float(whole)) != whole:
                raise MisfitError(value, dtype, "a float has no room for all of its digits")
            else:
                number = float(whole)
        if limit <= abs(number) < math.inf:
            raise MisfitError(value, dtype, "it is too large")
        return number

    return convert


def _boolean(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> bool:
        if not isinstance(value, bool) and type(value).__name__ not in _TRUTHS:
            raise MisfitError(value, dtype)
        return bool(value)

    return convert


def _string(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise MisfitError(value, dtype)
        text = str.__str__(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MisfitError(text, dtype, "it has half of a surrogate pair") from error
        return text

    return convert


def _binary(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise MisfitError(value, dtype)
        return bytes(cast("bytes", value))

    return convert


def _nothing(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> None:
        raise MisfitError(value, dtype)

    return convert


def _enum(dtype: pl.Enum) -> Convert:
    known = frozenset(dtype.categories)

    def convert(value: Any) -> str:
        if not isinstance(value, str) or str.__str__(value) not in known:
            raise MisfitError(value, f"one of {cut(', '.join(dtype.categories))}")
        return str.__str__(value)

    return convert


def _decimal(dtype: pl.Decimal) -> Convert:
    scale, precision = dtype.scale, dtype.precision or 38

    def convert(value: Any) -> Decimal:
        whole = _whole(value)
        if isinstance(value, Decimal):
            number = value
        elif whole is not None:
            number = Decimal(whole)
        elif isinstance(value, float):
            number = Decimal(repr(float(value)))
        else:
            raise MisfitError(value, dtype)
        if not number.is_finite():
            raise MisfitError(value, dtype)
        _, digits, exponent = number.normalize().as_tuple()
        places = max(0, -int(exponent))
        before = max(0, len(digits) + int(exponent))
        if places > scale or before > precision - scale:
            raise MisfitError(value, dtype, "it has more digits")
        return number

    return convert


def _of_text(kind: type[Moment], value: str, dtype: pl.DataType, like: str) -> Moment:
    """The moment that an ISO 8601 text says; no digit may be lost."""
    try:
        moment = kind.fromisoformat(value)
    except ValueError as error:
        raise MisfitError(value, dtype, f"text is to be like {like}") from error
    if _FINER.search(value):
        raise MisfitError(value, dtype, "it is finer than microseconds")
    return moment


def _datetime(dtype: pl.Datetime) -> Convert:
    unit = {"ms": 1_000, "us": 1, "ns": 1}[dtype.time_unit]

    def convert(value: Any) -> dt.datetime:
        moment = value
        if isinstance(value, str):
            moment = _of_text(dt.datetime, value, dtype, "2013-01-01T05:17:00Z")
        elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            moment = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        if not isinstance(moment, dt.datetime):
            hint = "a number needs its unit, like sf.epoch(…, unit='ms') or a cast behind the source"
            raise MisfitError(value, dtype, hint if _whole(value) is not None else "")
        if moment.microsecond % unit or getattr(moment, "nanosecond", 0):
            raise MisfitError(value, dtype, "it is finer")
        if dtype.time_unit == "ns" and not 1678 <= moment.year <= 2261:
            raise MisfitError(value, dtype, "1678 to 2261 fit")
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        return moment.replace(tzinfo=None) if dtype.time_zone is None else moment

    return convert


def _date(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> dt.date:
        if isinstance(value, str):
            return _of_text(dt.date, value, dtype, "2013-01-01")
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise MisfitError(value, dtype)
        return value

    return convert


def _time(dtype: pl.DataType) -> Convert:
    def convert(value: Any) -> dt.time:
        moment = value
        if isinstance(value, str):
            moment = _of_text(dt.time, value, dtype, "05:17:00")
        if not isinstance(moment, dt.time) or moment.tzinfo is not None:
            raise MisfitError(value, dtype)
        return moment

    return convert


def _duration(dtype: pl.Duration) -> Convert:
    unit = dt.timedelta(microseconds={"ms": 1_000, "us": 1, "ns": 1}[dtype.time_unit])
    longest = {"ms": 2**63 - 1, "us": 2**63 - 1, "ns": 2**63 // 1_000 - 1}[dtype.time_unit]

    def convert(value: Any) -> dt.timedelta:
        if not isinstance(value, dt.timedelta):
            raise MisfitError(value, dtype)
        if value % unit:
            raise MisfitError(value, dtype, "it is finer")
        if abs(value // unit) > longest:
            raise MisfitError(value, dtype, "it is too long")
        return value

    return convert


def _list(dtype: pl.List | pl.Array, whole: bool) -> Convert:
    inner = converter(type_instance(dtype.inner), whole)
    width = dtype.size if isinstance(dtype, pl.Array) else None

    def convert(value: Any) -> list[Any]:
        items = value.tolist() if type(value).__name__ == "ndarray" else value
        if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, (Sequence, pl.Series)):
            raise MisfitError(value, dtype)
        if width is not None and len(cast("Sequence[Any]", items)) != width:
            raise MisfitError(value, dtype, "it has another length")
        return [None if item is None else inner(item) for item in cast("Sequence[Any]", items)]

    return convert


def _struct(dtype: pl.Struct, whole: bool) -> Convert:
    fields = [(field.name, converter(type_instance(field.dtype), whole)) for field in dtype.fields]
    names = frozenset(name for name, _ in fields)

    def convert(value: Any) -> dict[str, Any]:
        if whole and isinstance(value, Mapping):
            for name in set(map(str, value)) - names:
                raise ValueError("; ".join(unknown_name("field", name, [each for each, _ in fields])))
        found = ((name, inner, field_of(value, name)) for name, inner in fields)
        return {name: None if item is None else inner(item) for name, inner, item in found}

    return convert


_CONVERTERS: Final[dict[type[pl.DataType], Callable[[Any], Convert]]] = {
    pl.Boolean: _boolean,
    pl.Enum: _enum,
    pl.String: _string,
    pl.Categorical: _string,
    pl.Binary: _binary,
    pl.Decimal: _decimal,
    pl.Datetime: _datetime,
    pl.Date: _date,
    pl.Time: _time,
    pl.Duration: _duration,
    pl.Null: _nothing,
}
