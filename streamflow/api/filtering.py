"""Filters of a stream: by an expression or a function, of records or of changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl

from streamflow.api.stream import Stream, through
from streamflow.core.schema import CHANGE, Schema
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.operator import Layout
from streamflow.operators.stateless.columns import Filter
from streamflow.operators.stateless.declared_schema import returned_schema
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.stateless.filter_changes import FilterChanges
from streamflow.operators.stateless.functions import Functions, Step
from streamflow.operators.stateless.user_functions import check_gives, on_rows

__all__ = ["filtered"]

_MADE: Final = "\x1afilter"


def filtered(stream: Stream, predicate: pl.Expr | Callable[[Any], object]) -> Stream:
    """The records for which the predicate is true; `Stream.filter` calls it."""
    schema = stream.schema
    changing = bool(stream.type.changes) and isinstance(schema, Schema) and CHANGE in schema
    if isinstance(predicate, pl.Expr):
        return through(stream, (FilterChanges if changing else Filter)(predicate=predicate))
    if not callable(predicate):
        raise JobDefinitionError(f"filter got {predicate!r}", hint="give an expression like col('x') > 1")
    check_gives(predicate, "filter")
    returned_schema(predicate, what="filter")
    function = on_rows(predicate, stream.type.schema, "filter")
    if not changing:
        return through(stream, Functions((Step("filter", function),)))

    def passes(row: Any) -> bool:
        return bool(function(row))

    # A column, since whether a change passes decides the kind of the one beside it.
    made = through(stream, Extract(((_MADE, passes),), Layout.FRAME))
    return through(made, FilterChanges(predicate=pl.col(_MADE), made=_MADE))
