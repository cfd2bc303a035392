"""Changes from old totals to new ones: both in one frame, made a frame of changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, shown_name
from streamflow.operators.kernels.engine import collected_as_written

__all__ = ["GONE", "OLD", "TotalChanges"]

OLD: Final = "__old"
"""Whether a total is an earlier one."""
GONE: Final = "__gone"
"""Whether there is no total any more: what it was made of has been withdrawn."""
_SAME: Final = "__same"


class TotalChanges:
    """The changes between totals by `keys` with the values `names`, as frames of these `columns`.

    `withdrawn`: totals may go, and have the column GONE.
    """

    def __init__(
        self,
        keys: Sequence[str],
        names: Sequence[str],
        columns: Sequence[str],
        *,
        timed: bool,
        withdrawn: bool = False,
    ) -> None:
        self._keys = list(keys)
        shown = {shown_name(key): key for key in keys}
        self._columns = [
            *(pl.col(shown.get(name, name)).alias(name) for name in columns),
            *([pl.col(EVENT_TIME)] if timed else []),
        ]
        self._told = _told(names, timed=timed, withdrawn=withdrawn)
        self._stands = ~pl.col(_SAME) & ~pl.col(GONE) if withdrawn else ~pl.col(_SAME)

    def of(self, totals: pl.DataFrame) -> pl.DataFrame:
        """The changes of totals, of which old ones come before new ones; a total that is as it was is no change."""
        # By key, each new total stands right behind the old one, if there is one.
        changes = totals.lazy().sort(self._keys, maintain_order=True).with_columns(self._told)
        return collected_as_written(changes.filter(self._stands).select(self._columns))


def _told(names: Sequence[str], *, timed: bool, withdrawn: bool) -> list[pl.Expr]:
    """The columns of a change, where each new total stands right behind the old one that it replaces, if there is one:
    its kind, its time, and whether nothing has changed."""
    old, time = pl.col(OLD), pl.col(EVENT_TIME)
    replacing = old.shift(1, fill_value=False)
    # Without values (a table of keys alone) an old total and its new one are the same.
    alike = [pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in names]
    same = pl.all_horizontal(old, *alike)
    before, after, insert, delete = (
        pl.lit(kind, CHANGE_TYPE) for kind in ("update_before", "update_after", "insert", "delete")
    )
    if withdrawn:
        goes = pl.col(GONE).shift(-1, fill_value=False)
        same, before = same & ~goes, pl.when(goes).then(delete).otherwise(before)
    kind = pl.when(old).then(before).when(replacing).then(after).otherwise(insert).alias(CHANGE)
    # A change happens when what is new does, a retraction too.
    times = [pl.when(old).then(time.shift(-1)).otherwise(time)] if timed else []
    return [(same | same.shift(1, fill_value=False)).alias(_SAME), kind, *times]
