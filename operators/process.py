"""`KeyedProcess`: a user's own logic by key, with state, timers, side outputs and a broadcast input.

Events of a batch are processed in the order in which they came. What one event or timer does (state, timers, rows) is
atomic with respect to barriers and watermarks, since nothing runs in between. Flink's KeyedProcessFunction and
KeyedBroadcastProcessFunction are the models.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import polars as pl

from streamflow.errors import JobDefinitionError
from streamflow.operators.base import (
    ERRORS,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
    StreamType,
)
from streamflow.operators.guard import DEAD_LETTER_TYPE
from streamflow.operators.process_context import ProcessContext, Timer
from streamflow.operators.process_keys import key_class
from streamflow.records.schema import Schema, StreamSchema
from streamflow.state.descriptors import Declared, declarations
from streamflow.state.evolution import state_differences

__all__ = ["WHOLE_RECORD", "KeyedProcess", "ProcessSpec", "declarations_of", "process_instance"]

WHOLE_RECORD: Final = "__record"
"""The column in which an object travels to its key's subtask, packed."""


class KeyedProcess:
    """The base of own processes: declare state as class attributes, say what an event does.

    >>> import streamflow as sf
    >>> class Totals(sf.KeyedProcess):
    ...     total = sf.ValueState(float, default=0.0)
    ...     output = {"key": sf.String, "total": sf.Float64}
    ...     def on_event(self, event, ctx):
    ...         self.total.update(self.total.value() + event["value"])
    ...         ctx.emit({"key": ctx.key, "total": self.total.value()})

    Each subtask works with a copy of the process; what has to survive belongs in state, what has to be opened in
    `open`. `output` says the columns of what `emit` puts out (a dict of types, a dataclass, TypedDict or NamedTuple);
    without it the rows are objects. `outputs` does so for the side outputs by name; None there means objects.

    With `.on_error("skip")` or a sink for errors, an event or timer that raises puts out nothing; what it had changed
    of its state before it raised stays changed.
    """

    output: ClassVar[object] = None
    outputs: ClassVar[Mapping[str, object]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declarations(cls)

    def __setattr__(self, name: str, value: object) -> None:
        if name in declarations_of(type(self)).attributes:
            raise AttributeError(f"{name} is state: use self.{name}.update(…), .add(…) or .put(…)")
        super().__setattr__(name, value)

    def open(self) -> None:
        """Called once in each subtask before its first event."""

    def on_event(self, event: Any, ctx: ProcessContext) -> None:
        """Called for each record of the key: a dict, the bare value of a one-column stream, or an object."""
        raise JobDefinitionError(f"{type(self).__name__} has no on_event", hint="define it")

    def on_timer(self, timer: Timer, ctx: ProcessContext) -> None:
        """Called when a timer is due."""
        raise JobDefinitionError(
            f"{type(self).__name__} has set a timer and has no on_timer", hint="define it"
        )

    def on_broadcast(self, event: Any, ctx: ProcessContext) -> None:
        """Called in every subtask for each record of the broadcast input; the place to change BroadcastState."""
        raise JobDefinitionError(f"{type(self).__name__} has no on_broadcast", hint="define it")

    def close(self) -> None:
        """Called once when the subtask ends, also after a failure."""


_declared: dict[type, Declared] = {}


def declarations_of(cls: type) -> Declared:
    """What a process class declares, found once."""
    found = _declared.get(cls)
    if found is None:
        found = _declared[cls] = declarations(cls)
    return found


@dataclass(frozen=True, eq=False)
class ProcessSpec(OperatorSpec):
    """A process over records partitioned by `keys`; a second input, if there is one, goes to all subtasks.

    `record_columns` are those that an event has, without the ones made to key it; None: events are objects in the
    column `WHOLE_RECORD`. `schema` is what it puts out, `side` the same for each side output.
    """

    kind: ClassVar[str] = "process"
    accepts: ClassVar[Layout] = Layout.FRAME
    emits: ClassVar[Layout] = Layout.ROWS
    keys: tuple[str, ...]
    process: KeyedProcess
    record_columns: tuple[str, ...] | None
    schema: StreamSchema
    side: tuple[tuple[str, StreamSchema], ...] = ()
    broadcast_columns: tuple[str, ...] | None = None
    null_keys: Literal["fail", "group"] = "fail"
    on_error: ErrorPolicy = "fail"

    @property
    def declared(self) -> Declared:
        """The process's states."""
        return declarations_of(type(self.process))

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        timed = inputs[0].timed
        for attribute, state in self.declared.keyed.items():
            if not timed and state.ttl is not None and state.ttl.clock == "event":
                raise JobDefinitionError(
                    f"state {attribute!r} expires by event time, and this stream has none",
                    hint='declare it with ttl_time="processing", or say event_time= when reading',
                )
        return StreamType(self.schema, timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        if output == ERRORS:
            return DEAD_LETTER_TYPE
        return StreamType(dict(self.side)[output], inputs[0].timed)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        from streamflow.operators.process_operator import ProcessOperator

        return ProcessOperator(self, ctx, inputs)

    def own_process(self) -> KeyedProcess:
        """The process of one subtask."""
        try:
            return copy.deepcopy(self.process)
        except Exception as error:
            raise JobDefinitionError(
                f"{type(self.process).__name__} cannot be copied for a subtask: {error}",
                hint="make connections and the like in its open()",
            ) from error

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        schema = inputs[0].schema
        types: Mapping[str, pl.DataType] = schema if isinstance(schema, Schema) else {}
        return {
            "keys": [[key, key_class(types.get(key))] for key in self.keys],
            "states": self.declared.signature(),
        }

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        mine = self.state_signature(inputs)
        return [
            *_key_differences(saved.get("keys", []), mine["keys"]),
            *state_differences(saved.get("states", {}), mine["states"]),
        ]

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self.keys

    def broadcasts(self, port: int) -> bool:
        return port > 0

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return False  # what it emits need not have its key

    def describe(self) -> str:
        return f"{type(self.process).__name__} by {', '.join(self.keys)}"


def _key_differences(saved: Sequence[Sequence[str]], mine: Sequence[Sequence[str]]) -> list[str]:
    if [name for name, _ in saved] != [name for name, _ in mine]:
        before, now = (", ".join(name for name, _ in keys) for keys in (saved, mine))
        return [f"it was keyed by {before} and is keyed by {now}"]
    return [
        f"key {name!r} was {before} and is {now}"
        for (name, before), (_, now) in zip(saved, mine, strict=True)
        if before != now and "unknown" not in (before, now)
    ]


def process_instance(process: object) -> KeyedProcess:
    """A process out of what a user hands over: one, or its class. Raises JobDefinitionError for anything else."""
    if inspect.isclass(process) and issubclass(process, KeyedProcess):
        try:
            return process()
        except TypeError as error:
            raise JobDefinitionError(
                f"{process.__name__} cannot be made without arguments: {error}",
                hint=f"give one: .process({process.__name__}(…))",
            ) from error
    if isinstance(process, KeyedProcess):
        return process
    raise JobDefinitionError(f"{process!r} is no process", hint="derive a class from sf.KeyedProcess")
