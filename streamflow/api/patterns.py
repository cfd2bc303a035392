"""`MatchedStream`: the matches of a pattern, the partial matches whose time is over, and late events."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

import polars as pl

from streamflow.api.stream import Stream, added, builder_of, has_end, read_of
from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import JobDefinitionError
from streamflow.graph.logical import Input, OperatorNode
from streamflow.operators.contract.operator import LATE
from streamflow.operators.contract.sink import Sink
from streamflow.operators.patterns.after_match import AfterMatch
from streamflow.operators.patterns.conditions import OnSteps
from streamflow.operators.patterns.match import TIMED_OUT, MatchSpec
from streamflow.operators.patterns.pattern import Condition, Pattern, Step, event_steps
from streamflow.operators.process.process import WHOLE_RECORD
from streamflow.operators.stateless.user_functions import check_gives, on_rows, row_maker
from streamflow.windows.accumulators import unpack

if TYPE_CHECKING:
    from streamflow.api.keying import Keying

__all__ = ["MatchedStream", "matched"]

_LOG: Final = logging.getLogger("streamflow.patterns")
_UNPACKS: Final = "-objects"
_NAME: Final = 63 - len(_UNPACKS)


class MatchedStream(Stream):
    """Matches: the keys, for each step the event that it took (a list where it may take several), `match_start` and
    `match_end`, the times of the first and the last event.

    A row's event time is the moment at which the match was certain: the last event's, or the end of the time in which
    an event had to be absent. Calls about the operator (`named`, `parallel`, `on_error`) are about the matching one.
    """

    def __init__(self, matches: Stream, columns: tuple[str, ...] | None, steps: tuple[str, ...]) -> None:
        """`matches` is the output of the matching operator, `columns` those of a record (None for objects)."""
        shown = matches if columns is not None else matches.map(_unpacked(steps), schema=OBJECTS)
        super().__init__(builder_of(shown), read_of(shown))
        self._matches = matches
        self._columns = columns
        self._steps = steps

    @property
    def timed_out(self) -> Stream:
        """Partial matches whose time is over: the keys, the steps, `match_start`, and `timed_out_at`, the moment from
        which no event could complete them.

        Each is there that has not become a match itself. Raises JobDefinitionError for a pattern without a time.
        """
        node, spec = self._node()
        if spec.automaton.within is None and spec.automaton.shortest is None:
            raise JobDefinitionError(
                f"{node} has no partial matches whose time is over: its pattern has no time",
                hint='add .within("10m") to the pattern',
            )
        stream = self._side(TIMED_OUT)
        return stream if self._columns is not None else stream.map(_unpacked(self._steps), schema=OBJECTS)

    @property
    def late(self) -> Stream:
        """The events behind the watermark, unchanged."""
        node, spec = self._node()
        builder_of(self._matches).change(node, spec=replace(spec, late_used=True))
        late = self._side(LATE)
        if self._columns is None:
            return late.map(_whole, schema=OBJECTS)
        whole = isinstance(late.schema, Schema) and tuple(late.schema) == self._columns
        return late if whole else late.select(*self._columns)

    def named(self, name: str) -> Self:
        matches = self._matches.named(name)
        if self._columns is not None:
            renamed = super().named(name)
        else:
            renamed = super().named(f"{name[:_NAME]}{_UNPACKS}")
        renamed._matches = matches
        return renamed

    def parallel(self, subtasks: int) -> Stream:
        self._matches.parallel(subtasks)
        return self if self._columns is not None else super().parallel(subtasks)

    def on_error(self, policy: Literal["fail", "skip"] | Sink) -> Stream:
        self._matches.on_error(policy)
        return self

    def _node(self) -> tuple[str, MatchSpec]:
        """The id of the matching operator, and its spec."""
        node = builder_of(self._matches).node(read_of(self._matches).node)
        assert isinstance(node, OperatorNode)
        assert isinstance(node.spec, MatchSpec)
        return node.id, node.spec

    def _side(self, output: str) -> Stream:
        return Stream(builder_of(self._matches), Input(read_of(self._matches).node, output))


def matched(keying: Keying, pattern: object, after_match: object) -> MatchedStream:
    """The matches of a pattern behind a keyed stream; `KeyedStream.match` calls it."""
    if not isinstance(pattern, Pattern):
        raise JobDefinitionError(
            f"match got {pattern!r}", hint='give a pattern, like sf.pattern("first", col("amount") > 10)'
        )
    steps = event_steps(pattern)
    rule = AfterMatch.parsed(after_match, steps)
    made, pattern = _made(pattern, keying)
    stream = keying.whole_records(made)
    spec = MatchSpec(
        keys=keying.keys,
        pattern=pattern,
        record_columns=keying.record_columns or (WHOLE_RECORD,),
        after_match=rule,
        null_keys=keying.null_keys,
    )
    matches = Stream(builder_of(stream), added(stream, spec))
    if not spec.automaton.bounded and not has_end(stream):
        _LOG.warning(
            "%s keeps partial matches for ever: end the pattern with .within(…)", read_of(matches).node
        )
    return MatchedStream(matches, keying.record_columns, tuple(steps))


def _made(pattern: Pattern, keying: Keying) -> tuple[tuple[tuple[str, Callable[[Any], bool]], ...], Pattern]:
    """Columns to be made of conditions that are functions, and the pattern over those columns."""
    made: list[tuple[str, Callable[[Any], bool]]] = []

    def column(step: Step, condition: Condition | None, what: str) -> Condition | None:
        if condition is None:
            return None
        if isinstance(condition, pl.Expr):
            if keying.record_columns is None:
                raise JobDefinitionError(
                    f"the condition of {step.name!r} is an expression, and this stream holds Python objects",
                    hint="give a function of the record",
                )
            return condition
        where = f"the condition of {step.name!r}"
        if _takes_steps(condition):
            check_gives(condition, where, arguments=2)
            make = row_maker(condition, keying.record_schema, where, 0)
            record = unpack if keying.record_columns is None else _itself
            return OnSteps(condition, record if make is None else lambda event: make(record(event)))
        check_gives(condition, where)
        name = f"__{what}{step.name}"
        while name in (keying.record_columns or ()):
            name = f"_{name}"
        made.append((name, _yes_or_no(on_rows(condition, keying.record_schema, where))))
        return pl.col(name)

    def steps(of: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(
            replace(
                step,
                condition=column(step, step.condition, "is "),
                until=column(step, step.until, "until of "),
                steps=steps(step.steps),
            )
            for step in of
        )

    with_columns = replace(pattern, steps=steps(pattern.steps))
    return tuple(made), with_columns


def _takes_steps(function: Callable[..., object]) -> bool:
    """Whether a condition takes the records of earlier steps beside its own."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return len(signature.parameters) > 1
    return False


def _itself(record: Any) -> Any:
    return record


def _yes_or_no(function: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """The function, made to give True or False."""

    def condition(record: Any) -> bool:
        value = function(record)
        if isinstance(value, pl.Expr):
            raise TypeError(
                "the condition gave an expression, and a function gives True or False; "
                "a function of earlier steps takes them as a second argument: lambda record, steps: …"
            )
        return bool(value)

    update_wrapper(condition, function, updated=())
    condition.__annotations__ = {"return": bool}
    return condition


def _whole(row: dict[str, Any]) -> Any:
    return unpack(row[WHOLE_RECORD])


def _unpacked(steps: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function from a match of packed objects to one of objects."""

    def unpacked(row: dict[str, Any]) -> dict[str, Any]:
        return {name: _objects(value) if name in steps else value for name, value in row.items()}

    return unpacked


def _objects(packed: Any) -> Any:
    if packed is None:
        return None
    return list(map(unpack, cast("list[bytes]", packed))) if isinstance(packed, list) else unpack(packed)
