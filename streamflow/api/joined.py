"""Joins: which one a call of `join` or `join_asof` means, and `JoinedStream`, its result and its late rows.

A window, an interval and a table each say what may match and how long it is kept; without any of them all rows of both
sides count for ever. Streams of Python objects are joined with each record packed beside its keys.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

import polars as pl

from streamflow.api.builder import with_place
from streamflow.api.object_fields import field_of
from streamflow.api.stream import Stream, added, builder_of, has_end, read_of, through
from streamflow.api.tables import Table, key_names
from streamflow.arguments import chosen, whole_number
from streamflow.core.schema import CHANGE, OBJECTS, Schema, key_column
from streamflow.errors import JobDefinitionError, Where
from streamflow.graph.logical import Input
from streamflow.operators.contract.operator import LATE
from streamflow.operators.joins.as_of import AsOfJoin
from streamflow.operators.joins.changing import ChangingJoin
from streamflow.operators.joins.interval import IntervalJoin
from streamflow.operators.joins.lookup import LookupJoin
from streamflow.operators.joins.sides import ALONE, LATE_SIDE, SIDES, How, JoinSpec
from streamflow.operators.joins.table import TableJoin
from streamflow.operators.joins.table_rows import DELETED
from streamflow.operators.joins.window import WindowJoin
from streamflow.operators.stateless.extract import JoinKeys
from streamflow.planning.convert import natural_layout
from streamflow.time.timestamps import EARLIEST, LATEST, Duration, parse_duration
from streamflow.windows.accumulators import pack, unpack
from streamflow.windows.assigners import Assigner, Session
from streamflow.windows.own_assigner import WindowAssigner
from streamflow.windows.slicing import SlicedAssigner

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder

__all__ = ["JoinedStream", "Keys", "Strategy", "joined", "joined_as_of"]

Unpacked = Callable[[dict[str, Any]], dict[str, Any]]
Keys = str | pl.Expr | Sequence[str | pl.Expr]
Strategy = Literal["auto", "hash", "sort-merge", "broadcast"]
_STRATEGIES: Final = ("auto", "hash", "sort-merge", "broadcast")

_OF_LEFT: Final = ("inner", "left", "semi", "anti")
_RECORD: Final = "\x1arecord"
_SALT: Final = "\x1asalt"
_MOST_OF_NAME: Final = 50
"""The number of letters of a join's name in those of its parts."""
_ALL_TIME: Final = LATEST - EARLIEST + 1
_MOST_SALT: Final = 1_024
_APART: Final = "\x1a"
"""The suffix of the right's record."""
_LOG: Final = logging.getLogger("streamflow.joins")


class JoinedStream(Stream):
    """The rows of a join: the keys once, then the left's columns, then the right's."""

    def __init__(
        self,
        builder: GraphBuilder,
        read: Input,
        kind: type[JoinSpec],
        *,
        unpacked: Unpacked | None = None,
        salted: bool = False,
        extracted: Sequence[str] = (),
    ) -> None:
        """`read` is the join's output; `unpacked` makes objects of its rows; `salted`: they have a salt; `extracted`:
        the operators that take the keys out of the left's and the right's objects."""
        shown = Stream(builder, read)
        if unpacked is not None:
            shown = shown.map(unpacked, schema=OBJECTS)
        elif salted:
            shown = shown.drop(_SALT)
        super().__init__(builder, read_of(shown))
        self._join = read
        self._kind = kind
        self._unpacked = unpacked
        self._salted = salted
        self._extracted = extracted
        self._name_extracted(read.node)

    @property
    def late(self) -> Stream:
        """The rows behind the join's watermark, under the result's names and with the other side's columns null;
        `late_side` says which side each came by.

        Raises JobDefinitionError for a join without event time, which has no late rows.
        """
        join = self._builder.current(self._join)
        if self._kind not in (IntervalJoin, WindowJoin, AsOfJoin):
            raise JobDefinitionError(
                "it has no late rows: every row joins with what is there when it comes",
                where=Where(operator=join.node),
                hint="joins by window=, within= or join_asof have late rows",
            )
        late = Stream(self._builder, replace(join, output=LATE))
        if self._salted:
            # The right's rows came once for each salt.
            once = late.filter((pl.col(LATE_SIDE) == "left") | (pl.col(_SALT) == 0))
            late = once if self._unpacked is not None else once.drop(_SALT)
        return late if self._unpacked is None else late.map(self._unpacked, schema=OBJECTS)

    # The join itself is meant, not the step behind it that makes dicts of its rows or drops their salt.

    def named(self, name: str) -> Self:
        self._builder.rename(self._join.node, name)
        self._name_extracted(name)
        return self

    def _name_extracted(self, join: str) -> None:
        """Names what takes out keys after the join, as the user knows it: their functions may fail."""
        for id, side in zip(self._extracted, SIDES, strict=False):
            self._builder.rename(id, f"{join[:_MOST_OF_NAME]}-{side}-keys")

    def parallel(self, subtasks: int) -> Stream:
        Stream(self._builder, self._join).parallel(subtasks)
        return self


@dataclass(frozen=True)
class _Call:
    """The arguments that all joins have."""

    left: Stream
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How
    suffix: str
    salt: int = 1

    def spec(self, kind: type[JoinSpec], **more: Any) -> JoinSpec:
        return kind(
            left_keys=self.left_on, right_keys=self.right_on, how=self.how, suffix=self.suffix, **more
        )

    def only(self, kinds: Sequence[str], what: str, instead: str) -> None:
        """Raises JobDefinitionError for a `how` that this join does not have."""
        if self.how not in kinds:
            raise JobDefinitionError(f"{what} cannot be how={self.how!r}", where=self.where, hint=instead)

    @property
    def where(self) -> Where:
        return Where(operator="join")


def joined(
    left: Stream,
    right: Stream | Table | pl.DataFrame,
    on: Keys | None,
    left_on: Keys | None,
    right_on: Keys | None,
    *,
    how: How,
    window: Assigner | None,
    within: tuple[Duration, Duration] | None,
    strategy: Strategy,
    suffix: str,
    ttl: Duration | None,
    salt: int,
) -> JoinedStream:
    """The join of two streams, or of a stream and a table; `Stream.join` calls it."""
    return with_place(
        "join",
        lambda: _joined(
            _call(left, right, on, left_on, right_on, how, suffix, salt), right, window, within, strategy, ttl
        ),
    )


def joined_as_of(
    left: Stream,
    right: Stream | Table | pl.DataFrame,
    on: Keys | None,
    left_on: Keys | None,
    right_on: Keys | None,
    *,
    how: How,
    tolerance: Duration | None,
    suffix: str,
    salt: int,
) -> JoinedStream:
    """The as-of join; `Stream.join_asof` calls it."""
    return with_place(
        "join",
        lambda: _joined_as_of(_call(left, right, on, left_on, right_on, how, suffix, salt), right, tolerance),
    )


def _joined(
    call: _Call,
    right: Stream | Table | pl.DataFrame,
    window: Assigner | None,
    within: tuple[Duration, Duration] | None,
    strategy: Strategy,
    ttl: Duration | None,
) -> JoinedStream:
    chosen(strategy, "strategy", _STRATEGIES)
    given = {"window": window, "within": within, "ttl": ttl}
    bounds = [name for name, value in given.items() if value is not None]
    if len(bounds) > 1:
        raise JobDefinitionError(
            f"a join has {' and '.join(bounds)}", where=call.where, hint="give one of them"
        )
    if call.salt > 1 and window is None and within is None:
        raise JobDefinitionError(
            "a join with a salt, and without a window or an interval",
            where=call.where,
            hint="salt= goes with window=, within= or join_asof",
        )
    if bounds and (not isinstance(right, Stream) or strategy == "broadcast"):
        raise JobDefinitionError(
            f"a join with a table has no {bounds[0]}",
            where=call.where,
            hint=f"join two streams by {bounds[0]}=, or leave it out",
        )
    if isinstance(right, pl.DataFrame):
        return _with_frame(call, right)
    if isinstance(right, Table):
        return _with_table(call, right, strategy)
    if strategy == "broadcast":
        call.only(
            _OF_LEFT, "a join with a table in every subtask", "swap the two sides, or leave strategy out"
        )
        if not has_end(right):
            raise JobDefinitionError(
                "strategy='broadcast' needs a right side that ends",
                where=call.where,
                hint="join with job.table(…), or by window= or within=",
            )
        return _added(call, right, TableJoin, bounded=True, broadcast=True, every_row=True)
    if window is not None:
        return _by_window(call, right, window)
    if within is not None:
        lower, upper = _interval(within, call)
        return _added(call, right, IntervalJoin, lower=lower, upper=upper)
    return _regular(call, right, None if ttl is None else parse_duration(ttl, what="ttl", positive=True))


def _joined_as_of(
    call: _Call, right: Stream | Table | pl.DataFrame, tolerance: Duration | None
) -> JoinedStream:
    call.only(_OF_LEFT, "a join as of a time", "swap the two sides")
    if isinstance(right, pl.DataFrame):
        raise JobDefinitionError(
            "join_asof with a DataFrame",
            where=call.where,
            hint="read it: job.read(sf.MemorySource(frame), …)",
        )
    if isinstance(right, Table):
        _check_table_keys(call, right)
    parsed = None if tolerance is None else parse_duration(tolerance, what="tolerance", negative=False)
    return _as_of(call, right.stream if isinstance(right, Table) else right, parsed)


def _call(
    left: Stream,
    right: object,
    on: Keys | None,
    left_on: Keys | None,
    right_on: Keys | None,
    how: How,
    suffix: str,
    salt: int,
) -> _Call:
    where = Where(operator="join")
    if not isinstance(right, (Stream, Table, pl.DataFrame)):
        raise JobDefinitionError(
            f"a join with a {type(right).__name__}",
            where=where,
            hint="give a stream before key_by(…), a table or a DataFrame; a source is read first: job.read(…)",
        )
    other = right.stream if isinstance(right, Table) else right
    if isinstance(other, Stream) and builder_of(other) is not builder_of(left):
        raise JobDefinitionError("a join of streams of two jobs", where=where, hint="read both in one sf.Job")
    if how not in list(ALONE):
        raise JobDefinitionError(f"how is {how!r}", where=where, hint=f"choose one of {', '.join(ALONE)}")
    if on is None and isinstance(right, Table) and left_on is None and right_on is None:
        on = right.keys
    if (on is None) == (left_on is None) or (left_on is None) != (right_on is None):
        raise JobDefinitionError(
            "a join needs on=, or left_on= and right_on=", where=where, hint='name columns, like on="origin"'
        )
    of_left = key_names(on if left_on is None else left_on, "on" if left_on is None else "left_on")
    of_right = key_names(on if right_on is None else right_on, "on" if right_on is None else "right_on")
    if len(of_left) != len(of_right):
        raise JobDefinitionError(
            f"left_on names {len(of_left)} columns and right_on {len(of_right)}",
            where=where,
            hint="name pairs",
        )
    if whole_number(salt, "salt") > _MOST_SALT:
        raise JobDefinitionError(
            f"salt is {salt}, and all rows of the right are kept so many times",
            where=where,
            hint=f"a number about that of the subtasks is enough; at most {_MOST_SALT:,}",
        )
    if not isinstance(suffix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise JobDefinitionError(
            f"suffix is {suffix!r}", where=where, hint='write a text, like suffix="_right"'
        )
    return _Call(left, of_left, of_right, how, suffix, salt)


def _by_window(call: _Call, right: Stream, window: Assigner) -> JoinedStream:
    merges = isinstance(window, Session) or (isinstance(window, WindowAssigner) and window.merging)
    if not isinstance(window, (SlicedAssigner, Session, WindowAssigner)):
        raise JobDefinitionError(
            f"a join by {window}",
            where=call.where,
            hint="give windows of event time, like sf.tumbling(…), sf.session(…) or own ones, or within=",
        )
    if call.salt > 1 and merges:
        raise JobDefinitionError(
            f"a join by {window} with a salt",
            where=call.where,
            hint="leave salt out: all rows of a key make its windows",
        )
    return _added(call, right, WindowJoin, assigner=window)


def _interval(within: object, call: _Call) -> tuple[int, int]:
    ends = cast("tuple[Any, ...]", within)
    if not isinstance(within, (tuple, list)) or len(ends) != 2:
        raise JobDefinitionError(
            f"within is {within!r}",
            where=call.where,
            hint='give the first and the last distance of the right\'s time, like within=("-5m", "1m")',
        )
    lower, upper = (parse_duration(each, what="within") for each in ends)
    if lower > upper:
        raise JobDefinitionError(
            f"within={within!r} is empty", where=call.where, hint="give the earlier end first"
        )
    # No two times are further apart, and times that are added to such distances stay numbers of 64 bits.
    lower, upper = (min(max(each, -_ALL_TIME), _ALL_TIME) for each in (lower, upper))
    return lower, upper


def _with_frame(call: _Call, frame: pl.DataFrame) -> JoinedStream:
    call.only(
        _OF_LEFT, "a join with a frame", "a stream has no end at which a frame's rows are known to be alone"
    )
    left, unpacked, extracted = call.left, None, list[str]()
    frame = frame.clone()  # the caller may change the other in place
    if not isinstance(left.schema, Schema):
        _check_records(call, left)
        packed = pl.Series(_RECORD, [pack(row) for row in frame.iter_rows(named=True)], pl.Binary)
        frame = frame[list(call.right_on)].hstack([packed])
        left, keys = _records(left, call.left_on)
        extracted, unpacked = [keys], _merging(call)
        call = _packed(call)
    read = added(left, call.spec(LookupJoin, frame=frame))
    return JoinedStream(builder_of(left), read, LookupJoin, unpacked=unpacked, extracted=extracted)


def _with_table(call: _Call, table: Table, strategy: Strategy) -> JoinedStream:
    _check_table_keys(call, table)
    if call.left.type.changes and not table.versioned:
        if strategy == "broadcast":
            raise JobDefinitionError(
                "strategy='broadcast' for changes, which are joined by key",
                where=call.where,
                hint="leave it out",
            )
        return _regular(call, table.changes(), None)
    call.only(_OF_LEFT, "a stream's join with a table", "join two tables' changes(), or swap the two sides")
    if table.versioned:
        if strategy == "broadcast":
            raise JobDefinitionError(
                "a table with a history is joined by key", where=call.where, hint="leave strategy out"
            )
        return _as_of(call, table.stream, None)
    bounded = has_end(table.stream)
    return _added(call, table.stream, TableJoin, bounded=bounded, broadcast=strategy == "broadcast")


def _check_table_keys(call: _Call, table: Table) -> None:
    if set(call.right_on) != set(table.keys):
        raise JobDefinitionError(
            f"the table has one row for each {', '.join(table.keys)}, and the join is on {', '.join(call.right_on)}",
            where=call.where,
            hint=f"join on {', '.join(table.keys)}, or make the table by other keys",
        )


def _as_of(call: _Call, right: Stream, tolerance: int | None) -> JoinedStream:
    changing = bool(call.left.type.changes)
    result = _added(call, right, AsOfJoin, tolerance=tolerance, changing=changing)
    if changing and not has_end(call.left):
        _LOG.warning("%s keeps all rows of the left until they are withdrawn", read_of(result).node)
    return result


def _regular(call: _Call, right: Stream, ttl: int | None) -> JoinedStream:
    graph = builder_of(call.left).graph
    sides = ((call.left, call.left_on), (right, call.right_on))
    single = tuple(graph.one_row_each(read_of(side), keys, logs=False) is True for side, keys in sides)
    result = _added(call, right, ChangingJoin, ttl=ttl, single=single)
    if ttl is None and not (has_end(call.left) and has_end(right)):
        _LOG.warning(
            "%s keeps all rows of both sides for ever: join by window= or within=, with a table, or give a ttl=",
            read_of(result).node,
        )
    return result


def _added(call: _Call, right: Stream, kind: type[JoinSpec], **more: Any) -> JoinedStream:
    """The stream behind a join of two streams."""
    left, unpacked, salted, extracted = call.left, None, call.salt > 1, list[str]()
    if not all(isinstance(each.schema, Schema) for each in (left, right)):
        _check_records(call, left, right)
        # Of a record alone on the right it is not known which fields the left would have.
        kinds = ("inner", "semi") if kind is ChangingJoin else _OF_LEFT
        call.only(
            kinds, "a join of Python objects", "give the streams columns first: map(function, schema=…)"
        )
        (left, one), (right, other) = _records(left, call.left_on), _records(right, call.right_on)
        extracted = [one, other]
        call, unpacked = _packed(call), _merging(call)
    if salted:
        call.only(_OF_LEFT, "a join with a salt", "leave salt out, or swap the two sides")
        left, right = _salted(left, right, call.salt)
        call = replace(call, left_on=(*call.left_on, _SALT), right_on=(*call.right_on, _SALT))
    builder = builder_of(left)
    id = builder.add_operator(call.spec(kind, **more), (read_of(left), read_of(right)))
    return JoinedStream(builder, Input(id), kind, unpacked=unpacked, salted=salted, extracted=extracted)


def _salted(left: Stream, right: Stream, salt: int) -> tuple[Stream, Stream]:
    """Each of the left's rows with a number below `salt`, and the right's once with each such number: rows of one key
    spread over that many."""
    assert isinstance(left.schema, Schema)
    # A row that is withdrawn has the salt that it came with.
    own = [name for name in left.schema if not (left.type.changes and name == CHANGE)]
    number = pl.struct(*own).hash(0) % salt
    every = pl.lit(list(range(salt)), pl.List(pl.Int64))
    return left.with_columns(number.cast(pl.Int64).alias(_SALT)), right.with_columns(
        every.alias(_SALT)
    ).explode(_SALT)


# Streams of objects.


def _check_records(call: _Call, *streams: Stream) -> None:
    """Raises JobDefinitionError for changes, of which a join of objects would not know the kinds."""
    if any(stream.type.changes for stream in streams):
        raise JobDefinitionError(
            "a join of changes with Python objects",
            where=call.where,
            hint="give the streams columns first: map(function, schema=…)",
        )


def _packed(call: _Call) -> _Call:
    """The same join of streams that `_records` has made."""
    keys = (tuple(map(key_column, names)) for names in (call.left_on, call.right_on))
    left, right = keys
    return replace(call, left_on=left, right_on=right, suffix=_APART)


def _records(stream: Stream, keys: tuple[str, ...]) -> tuple[Stream, str]:
    """A stream's keys as columns, and each record packed; and the operator that does it."""
    columns = [*stream.schema] if isinstance(stream.schema, Schema) else []
    made = tuple((key_column(name), field_of(name)) for name in keys if name not in columns)
    packed = through(stream, JoinKeys((*made, (_RECORD, _pack)), natural_layout(stream.type)))
    kept = [*map(key_column, keys), _RECORD, *([DELETED] if DELETED in columns else [])]
    return packed.select(*kept), read_of(packed).node


def _pack(record: Any) -> bytes:
    if not isinstance(record, dict):
        raise TypeError(f"a join needs dicts, and this record is a {type(record).__name__}")
    fields = cast("dict[str, Any]", record)
    return pack({name: value for name, value in fields.items() if name != DELETED})


def _merging(call: _Call) -> Unpacked:
    """A function that makes one dict of both records of a pair."""
    names = dict(zip(call.right_on, call.left_on, strict=True))

    def merged(row: dict[str, Any]) -> dict[str, Any]:
        left, right = (row.get(name) for name in (_RECORD, f"{_RECORD}{_APART}"))
        record: dict[str, Any] = {} if left is None else unpack(left)
        other: dict[str, Any] = {} if right is None else unpack(right)
        result = dict(record)
        for name, value in other.items():
            if name in names:
                result.setdefault(names[name], value)
            else:
                result[name + call.suffix if name in record else name] = value
        return result if LATE_SIDE not in row else {LATE_SIDE: row[LATE_SIDE], **result}

    return merged
