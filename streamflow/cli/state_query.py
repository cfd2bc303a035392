"""SQL over the states in a checkpoint, answered by Polars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import polars as pl

from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from streamflow.savepoints.reading import SavedState

__all__ = ["answer"]

_READING: Final = re.compile(
    r"""(?<!\w) ((?:read|scan)_\w+) [\s"`\]]* (?:\( | /\* | -- | \#)""", re.IGNORECASE | re.VERBOSE
)
"""A call of a table function; a comment may stand before its arguments."""


def answer(saved: SavedState, query: str, operator: str | None) -> pl.DataFrame:
    """The result of a query over tables named like the states (a dash may be written as _), and "operator.state".

    Only the states in the query are read. SQL's table functions (read_csv, …) are refused: they could read any file.
    Raises ConfigError for a query that cannot be answered.
    """
    tables = _tables(saved, operator)
    _refuse_reading(query, tables)
    named = {name: place for name, place in tables.items() if name in query}
    read = {place: saved.frame(*place) for place in set(named.values())}
    try:
        return pl.SQLContext({name: read[place] for name, place in named.items()}, eager=True).execute(query)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ConfigError(
            f"the query cannot be answered: {error}", hint=f"there are the tables {', '.join(tables) or '–'}"
        ) from error


def _refuse_reading(query: str, tables: Mapping[str, tuple[str, str]]) -> None:
    # With any names of states, anywhere in the query: only Polars' parser knows the text within quotes.
    for name in _READING.findall(query):
        raise ConfigError(
            f"the query cannot be answered: {name} reads files",
            hint=f"a query is over the tables {', '.join(tables) or '–'} and nothing else",
        )


def _tables(saved: SavedState, operator: str | None) -> Mapping[str, tuple[str, str]]:
    """(operator, state) by the names that a query may use."""
    chosen = saved.operators.values() if operator is None else [saved.operator(operator)]
    places = [(each.id, state) for each in chosen for state in each.states]
    names = [state for _, state in places]
    tables: dict[str, tuple[str, str]] = {}
    for id, state in places:
        if names.count(state) == 1:
            tables[state] = tables[state.replace("-", "_")] = (id, state)
        tables[f"{id}.{state}"] = (id, state)
    return tables
