"""Fields of Python objects by name: keys, inputs of aggregates and orders that are given as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from streamflow.errors import RecordError, unknown_name

__all__ = ["field_of"]


def field_of(name: str) -> Callable[[Any], Any]:
    """A function that reads one field of an object: of a dict, dataclass or NamedTuple. It raises RecordError for an
    object without that field."""

    def field(row: Any) -> Any:
        try:
            return row[name]
        except (LookupError, TypeError) as error:
            return _attribute(row, name, error)

    field.__name__ = name
    return field


def _attribute(row: Any, name: str, raised: Exception) -> Any:
    """The field of a dataclass or NamedTuple; raises RecordError for any other object."""
    names = _names(row)
    if names is None:
        raise RecordError(
            f"no field {name!r} of a {type(row).__name__}: fields are those of a dict, dataclass or NamedTuple",
            record=row,
            hint="give a function of the record in place of the name",
        ) from raised
    if name in names:
        return getattr(row, name)
    message, hint = unknown_name("field", name, names)
    raise RecordError(message, record=row, hint=hint) from raised


def _names(row: Any) -> list[str] | None:
    """The names of an object's fields; None for one without such names."""
    kind: Any = row.__class__
    if issubclass(kind, dict):
        return [each for each in row if isinstance(each, str)]
    if is_dataclass(kind):
        return [each.name for each in fields(kind)]
    return list(kind._fields) if hasattr(kind, "_fields") else None
