"""The columns that a function, a class or `schema=` promises."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, cast

import polars as pl

from streamflow.core.schema import OBJECTS, Objects, Schema, StreamSchema, annotated_type
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.stateless.user_functions import alone, annotations_of, is_row_class
from streamflow.user_code import line_of_definition

__all__ = ["declared_schema", "returned_schema"]


def returned_schema(
    function: Callable[..., Any], *, flat: bool = False, what: str = "the job"
) -> StreamSchema:
    """The columns that a function's return annotation promises; OBJECTS if it promises none.

    A dataclass, TypedDict or NamedTuple gives its fields, a scalar one column `value`; with `flat` the annotation is
    that of an iterable of those. Raises JobDefinitionError for a function annotated to return None.

    >>> def length(row) -> int: ...
    >>> returned_schema(length)
    Schema(value: Int64)
    """
    annotations = annotations_of(function)
    annotation = annotations.get("return")
    if annotation is type(None):
        raise JobDefinitionError(
            f"{what} got a function that is annotated to return None",
            where=Where(code=line_of_definition(function)),
            hint="annotate its result's type, and return that",
        )
    if flat and annotation is not None:
        arguments = typing.get_args(annotation)
        origin = typing.get_origin(annotation)
        iterable = isinstance(origin, type) and issubclass(origin, (Iterable, Iterator))
        if not iterable or not arguments or issubclass(origin, Mapping):
            return OBJECTS
        annotation = arguments[0]
    return schema_of(annotation) or OBJECTS


def schema_of(annotation: Any) -> Schema | None:
    """The columns of an annotation; None if it names none."""
    if is_row_class(alone(annotation)):
        return _record_schema(alone(annotation))
    scalar = _column(annotation)
    if scalar is None:
        return None
    return Schema({"value": scalar}, optional=("value",) if _is_optional(annotation) else ())


def _record_schema(annotation: Any) -> Schema:
    fields: dict[str, pl.DataType] = {}
    for name, hint in annotations_of(annotation).items():
        column = _column(hint)
        if column is None:
            raise JobDefinitionError(
                f"field {name!r} of {_name(annotation)} is {hint}, which no column type stands for",
                hint="use str, int, float, bool, bytes, datetime, date, timedelta, a class of those or a list of them, "
                "or give schema=",
            )
        fields[name] = column
    optional: frozenset[str] = getattr(annotation, "__optional_keys__", frozenset())
    return Schema(fields, optional=optional)


def _is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def _column(annotation: Any) -> pl.DataType | None:
    """The type of a field's column; None if no column type matches."""
    return annotated_type(annotation, _own_column)


def _own_column(annotation: Any) -> pl.DataType | None:
    """The column type of a class of rows, or of literals of one type."""
    if is_row_class(annotation):
        return pl.Struct(dict(_record_schema(annotation)))
    if typing.get_origin(annotation) is not Literal:
        return None
    kinds = {type(argument) for argument in typing.get_args(annotation)}
    return annotated_type(kinds.pop()) if len(kinds) == 1 else None


def declared_schema(
    schema: object, function: Callable[..., Any], *, flat: bool = False, what: str = "the job"
) -> StreamSchema:
    """The columns of `schema=` if given, of the return annotation otherwise."""
    if schema is None:
        return returned_schema(function, flat=flat, what=what)
    if isinstance(schema, (Schema, Objects)):
        return schema
    if isinstance(schema, Mapping):
        return Schema(cast("Mapping[str, Any]", schema))
    found = schema_of(schema)
    if found is None:
        raise JobDefinitionError(
            f"schema={schema!r} names no columns",
            hint='write schema={"name": sf.String, …} or schema=sf.OBJECTS',
        )
    return found
