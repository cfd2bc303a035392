"""The state machine of a trigger, for many windows at once: a window is a row, its trigger's state some columns.

A trigger is a tree; each node has expressions: whether it is ready to fire, and what it and its columns are after
firing. So one query decides for all rows. State is kept in a form that merges: a batch adds rows with what it brings
(records, the time of the clock), and rows of one window are put together by sums and minima. Every node is told of
every record; one whose turn comes later begins again then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from streamflow.operators.aggregates.partials import COUNT
from streamflow.windows.triggers import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    Never,
    OrFinally,
    Repeatedly,
    Trigger,
)

__all__ = ["DONE", "NOW", "PASSED", "READY", "TriggerMachine"]

PASSED: Final = "__passed"
"""Whether the watermark has passed the window's end."""
NOW: Final = "__now"
"""The time of the clock, in microseconds."""
DONE: Final = "__done"
"""Whether the trigger has finished."""
READY: Final = "__ready"

_NO: Final = pl.lit(False)
_YES: Final = pl.lit(True)

Kind = Literal["sum", "min", "progress"]
"""How the column of several rows of one window is put together: progress is that of the window itself, 0 or False in
rows that a batch adds, and what other windows that it becomes of have of it that does not depend on their ends."""
Changes = dict[str, pl.Expr]


@dataclass(frozen=True)
class _Column:
    kind: Kind
    dtype: pl.DataType
    brought: Callable[[int], pl.Expr]
    """The value in the row of a batch, by the time of the clock."""
    back_to: int = 0
    """The value above which progress goes back when the window becomes another one."""


@dataclass(frozen=True)
class _Node:
    """`fired`: the columns after firing. `finished`: whether it has finished when it has fired. `fresh`: the columns
    at its beginning."""

    ready: pl.Expr
    fired: Changes
    finished: pl.Expr
    fresh: Changes


class TriggerMachine:
    """A trigger, compiled. Its state is in `columns`, and in DONE."""

    def __init__(self, trigger: Trigger) -> None:
        self._columns: dict[str, _Column] = {}
        self.delays: list[int] = []
        """The delays of the nodes that wait for the clock, by `clocks`, in microseconds."""
        self.clocks: list[str] = []
        """The columns with the times that they wait for."""
        self.watches_end = False
        """Whether the watermark that passes a window's end matters to it."""
        self.waits = trigger.waits
        self.fires_at_end = _fires_at_end(trigger)
        """Whether it is sure to fire then, whatever comes before."""
        root = self._node(trigger)
        self._columns[DONE] = _Column("progress", pl.Boolean(), lambda now: _NO)
        self.ready = (root.ready & ~pl.col(DONE)).alias(READY)
        self.can_finish = not (
            isinstance(trigger, Repeatedly | Never)
            or (isinstance(trigger, AfterWatermark) and trigger.late is not None)
        )
        self.quiet = _is_quiet(trigger)
        """Whether records make it fire only after the window's end, before which it waits for one clock at most."""
        fired = root.fired
        if self.can_finish:
            # Finished in a window that becomes another one, it begins again.
            fired = {**_either(root.finished, root.fresh, root.fired), DONE: root.finished}
        self.after: list[pl.Expr] = [
            pl.when(pl.col(READY))
            .then(change)
            .otherwise(pl.col(name))
            .cast(self._columns[name].dtype)
            .alias(name)
            for name, change in fired.items()
        ]
        """The columns after firing, in rows with READY."""

    @property
    def names(self) -> list[str]:
        """The names of the state's columns."""
        return list(self._columns)

    def brought(self, now: int) -> list[pl.Expr]:
        """The state's columns in rows with COUNT that a batch adds at a time of the clock."""
        return [column.brought(now).cast(column.dtype).alias(name) for name, column in self._columns.items()]

    def merges(self, same: pl.Expr | None) -> list[pl.Expr]:
        """The state's columns of one window out of several rows. `same`: whether a row is of the very window, where
        windows merge; None: all rows are."""
        return [_merge(name, column, same) for name, column in self._columns.items()]

    def _node(self, trigger: Trigger) -> _Node:
        match trigger:
            case AfterCount(n):
                name = self._column("sum", pl.Int64(), lambda now: pl.col(COUNT))
                fresh: Changes = {name: pl.lit(0)}
                return _Node(pl.col(name) >= n, fresh, _YES, fresh)
            case AfterProcessingTime(delay):
                name = self._column("min", pl.Int64(), lambda now: pl.lit(now + delay))
                self.delays.append(delay)
                self.clocks.append(name)
                fresh = {name: pl.lit(None)}
                return _Node((pl.col(name) <= pl.col(NOW)).fill_null(False), fresh, _YES, fresh)
            case AfterWatermark(None, None):
                self.watches_end = True
                return _Node(pl.col(PASSED), {}, _YES, {})
            case AfterWatermark(early, late):
                self.watches_end = True
                return self._around_end(early, late)
            case AfterEach(triggers):
                back_to = next((n for n, each in enumerate(triggers) if _waits_for_end(each)), len(triggers))
                return self._in_turn([self._node(each) for each in triggers], back_to)
            case AfterAny(triggers):
                nodes = [self._node(each) for each in triggers]
                fresh = _together(nodes)
                return _Node(pl.any_horizontal(*(node.ready for node in nodes)), fresh, _YES, fresh)
            case AfterAll(triggers):
                nodes = [self._node(each) for each in triggers]
                fresh = _together(nodes)
                return _Node(pl.all_horizontal(*(node.ready for node in nodes)), fresh, _YES, fresh)
            case Repeatedly(inner):
                node = self._node(inner)
                return _Node(node.ready, _repeated(node), _NO, node.fresh)
            case OrFinally(inner, until):
                node, last = self._node(inner), self._node(until)
                fresh = _together([node, last])
                return _Node(
                    node.ready | last.ready,
                    _either(last.ready, fresh, node.fired),
                    last.ready | node.finished,
                    fresh,
                )
            case Never():
                return _Node(_NO, {}, _NO, {})
            case _:
                raise TypeError(f"{trigger!r} is no trigger")

    def _around_end(self, early: Trigger | None, late: Trigger | None) -> _Node:
        """Before the window's end `early` again and again, at the end once, after it `late` again and again."""
        over = self._column("progress", pl.Boolean(), lambda now: _NO)
        before = None if early is None else self._node(early)
        after = None if late is None else self._node(late)
        is_over, passed = pl.col(over), pl.col(PASSED)
        ready = passed if before is None else passed | before.ready
        ready = pl.when(is_over).then(_NO if after is None else after.ready).otherwise(ready)
        at_end: Changes = {over: _YES, **({} if after is None else after.fresh)}
        fired = _either(passed, at_end, {} if before is None else _repeated(before))
        fired = _either(is_over, {} if after is None else _repeated(after), fired)
        fresh = {over: _NO, **_together([node for node in (before, after) if node is not None])}
        return _Node(ready, fired, (passed & ~is_over) if after is None else _NO, fresh)

    def _in_turn(self, nodes: list[_Node], back_to: int) -> _Node:
        """One after the other; from `back_to` on, which is for the end of a window, again if the window has a new
        one."""
        turn = self._column("progress", pl.Int64(), lambda now: pl.lit(0), back_to)
        at = pl.col(turn)
        ready, finished = _NO, _NO
        fired: Changes = {}
        for number, node in reversed(list(enumerate(nodes))):
            now = at == number
            following = nodes[number + 1].fresh if number + 1 < len(nodes) else {}
            over: Changes = {**following, turn: at + 1}
            fired = _either(now, {**node.fired, **_either(node.finished, over, {})}, fired)
            ready = pl.when(now).then(node.ready).otherwise(ready)
            if number + 1 == len(nodes):
                finished = now & node.finished
        return _Node(ready, fired, finished, {**_together(nodes), turn: pl.lit(0)})

    def _column(
        self, kind: Kind, dtype: pl.DataType, brought: Callable[[int], pl.Expr], back_to: int = 0
    ) -> str:
        name = f"__t{len(self._columns)}"
        self._columns[name] = _Column(kind, dtype, brought, back_to)
        return name


def _waits_for_end(trigger: Trigger) -> bool:
    """Whether the end of a window matters to it."""
    match trigger:
        case AfterWatermark():
            return True
        case AfterEach(triggers) | AfterAny(triggers) | AfterAll(triggers):
            return any(map(_waits_for_end, triggers))
        case Repeatedly(inner):
            return _waits_for_end(inner)
        case OrFinally(inner, until):
            return _waits_for_end(inner) or _waits_for_end(until)
        case _:
            return False


def _is_quiet(trigger: Trigger) -> bool:
    match trigger:
        case AfterWatermark(early, _):
            return early is None or isinstance(early, AfterProcessingTime)
        case Repeatedly(AfterProcessingTime() | AfterWatermark(None, None)) | Never():
            return True
        case _:
            return False


def _fires_at_end(trigger: Trigger) -> bool:
    match trigger:
        case AfterWatermark():
            return True
        case Repeatedly(inner) | OrFinally(Repeatedly(), inner):
            return _fires_at_end(inner)
        case _:
            return False


def _merge(name: str, column: _Column, same: pl.Expr | None) -> pl.Expr:
    match column.kind:
        case "sum":
            return pl.col(name).sum()
        case "min":
            return pl.col(name).min()
        case "progress":
            own = pl.col(name) if same is None else pl.col(name).filter(same)
            if column.dtype == pl.Boolean():
                return own.any()
            if same is None or not column.back_to:
                return own.max().fill_null(0)
            return pl.max_horizontal(own.max(), pl.col(name).max().clip(upper_bound=column.back_to)).alias(
                name
            )


def _repeated(node: _Node) -> Changes:
    """The columns after firing of a trigger that begins again when it has finished."""
    return _either(node.finished, node.fresh, node.fired)


def _either(condition: pl.Expr, changes: Mapping[str, pl.Expr], others: Mapping[str, pl.Expr]) -> Changes:
    """The changes where the condition holds, and the others elsewhere."""
    return {
        name: pl.when(condition)
        .then(changes.get(name, pl.col(name)))
        .otherwise(others.get(name, pl.col(name)))
        for name in {**changes, **others}
    }


def _together(nodes: list[_Node]) -> Changes:
    return {name: value for node in nodes for name, value in node.fresh.items()}
