"""Columns by which records are put in order, as users give them: names, expressions, functions of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from streamflow.api.choosing import On
from streamflow.api.object_fields import field_of
from streamflow.api.stream import Stream
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.stateless.user_functions import check_gives, on_rows

__all__ = ["Ordering", "listed", "ordering"]

_EVENT_TIME = "event_time"


@dataclass(frozen=True)
class Ordering:
    """The order of records: columns, each with whether it is descending, and as the user wrote it (`shown`).

    `stream` has the columns that expressions make; `functions` make the others.
    """

    stream: Stream
    columns: tuple[str, ...]
    descending: tuple[bool, ...]
    functions: tuple[tuple[str, Callable[[Any], Any]], ...]
    shown: tuple[str, ...]

    @property
    def by(self) -> tuple[tuple[str, bool], ...]:
        """Each column with whether it is descending."""
        return tuple(zip(self.columns, self.descending, strict=True))


def ordering(
    stream: Stream,
    by: On | Iterable[On],
    descending: bool | Iterable[bool],
    what: str,
    *,
    by_time: bool = False,
) -> Ordering:
    """The order that the method `what` was given; `by_time`: "event_time" stands for the stream's event time."""
    given = listed(by)
    flags = [descending] * len(given) if isinstance(descending, bool) else list(descending)
    if not given:
        raise JobDefinitionError(
            f"{what} without a column", where=Where(operator=what), hint='give some, like "delay"'
        )
    if len(flags) != len(given) or not all(isinstance(flag, bool) for flag in flags):
        raise JobDefinitionError(
            f"descending is {descending!r}",
            where=Where(operator=what),
            hint="give True or False, or a list with one for each column",
        )
    columns: list[str] = []
    expressions: list[pl.Expr] = []
    functions: list[tuple[str, Callable[[Any], Any]]] = []
    for each in given:
        made = _made(each, stream, what, by_time=by_time)
        name = made if isinstance(made, str) else f"__by {len(columns)}: {_shown(each)}"
        if isinstance(made, pl.Expr):
            expressions.append(made.alias(name))
        elif not isinstance(made, str):
            functions.append((name, made))
        columns.append(name)
    if expressions:
        stream = stream.with_columns(*expressions)
    return Ordering(stream, tuple(columns), tuple(flags), tuple(functions), tuple(map(_shown, given)))


def listed(given: On | Iterable[On]) -> list[On]:
    """One column, expression or function, or several, as a list."""
    if isinstance(given, str | pl.Expr) or callable(given):
        return [given]
    if isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        return list(given)
    raise JobDefinitionError(f"{given!r} is no column", hint="give a column, an expression or a function")


def _made(by: On, stream: Stream, what: str, *, by_time: bool) -> str | pl.Expr | Callable[[Any], Any]:
    """The column that is there, or the expression or function that makes it."""
    schema, where = stream.schema, Where(operator=what)
    if isinstance(by, str):
        if by_time and by == _EVENT_TIME:
            if stream.type.timed:
                return EVENT_TIME
            if not isinstance(schema, Schema) or by not in schema:
                raise JobDefinitionError(
                    "this stream has no event time",
                    where=where,
                    hint='give it when reading: job.read(source, event_time="column")',
                )
        if not isinstance(schema, Schema):
            return field_of(by)
        schema.need(by, where=where)
        return by
    if isinstance(by, pl.Expr):
        if not isinstance(schema, Schema):
            raise JobDefinitionError(
                f"{what} by an expression, and this stream holds Python objects",
                where=where,
                hint="give a field's name or a function of the record",
            )
        if by.meta.has_multiple_outputs():
            raise JobDefinitionError(f"{by} is not one column", where=where, hint="give each by itself")
        return by.meta.output_name() if by.meta.is_column() and by.meta.output_name() in schema else by
    if callable(by):
        check_gives(by, what)
        return on_rows(by, stream.type.schema, what)
    raise JobDefinitionError(
        f"{by!r} is no column", where=where, hint="give a column, an expression or a function"
    )


def _shown(by: On) -> str:
    return (
        by
        if isinstance(by, str)
        else str(by)
        if isinstance(by, pl.Expr)
        else getattr(by, "__name__", "function")
    )
