"""`KeyedProcess`: a user's own logic by key, with state, timers, side outputs and a broadcast input.

The effects of one event or timer (state, timers, rows) are atomic with respect to barriers and watermarks. Flink's
KeyedProcessFunction and KeyedBroadcastProcessFunction are the models, Beam's time-sorted input that of
`order="event_time"`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, cast

from streamflow.core.schema import CHANGE, StreamSchema
from streamflow.core.stream_type import StreamType, lack_of_kinds
from streamflow.errors import JobDefinitionError
from streamflow.operators.aggregates.state_order import state_order
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    ERRORS,
    LATE,
    ErrorPolicy,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
    own_output,
)
from streamflow.operators.process.context import ProcessContext, Timer
from streamflow.operators.process.keys import typed_keys
from streamflow.operators.stateless.user_functions import RowMaker, silent
from streamflow.state.keyed.descriptors import Declaration, Declared, declarations
from streamflow.state.keyed.evolution import state_differences
from streamflow.user_code import described, raised_by_user

__all__ = [
    "WHOLE_RECORD",
    "KeyedProcess",
    "ProcessOrder",
    "ProcessSpec",
    "declarations_of",
    "process_instance",
]

ProcessOrder = Literal["arrival", "event_time"]

WHOLE_RECORD: Final = "__record"
"""The column in which an object travels to its key's subtask, packed."""


class KeyedProcess:
    """The base class of own processes: state as class attributes, and a method for events.

    **Order.** `process(P)`, which is `order="arrival"`, hands the events of a key over as they arrive, late ones too.
    Event-time timers fire between them as if the source had made a watermark after every record, however the records
    are cut into batches: before an event all timers fire that the watermark before it has passed. In batch mode events
    come in order of event time, those of one moment as they arrived, which is what a stream in order gives.
    `process(P, order="event_time")` hands an event over once the watermark has passed it, in order of event time, and
    the timers before it first: the result is the same in every mode, at any parallelism, and for any order of arrival
    within the watermark's bound, at the cost of that bound in latency. Events of one moment come in the order of their
    columns' values. An event behind the watermark goes to `.late`, or is counted. A broadcast record with event
    time comes before the events of its moment, and at once if it is behind the watermark. When the input has ended,
    each timer that is set fires once, in order; one that a timer sets then fires only if it is for no later than the
    last event.

    >>> import streamflow as sf
    >>> class Totals(sf.KeyedProcess):
    ...     total = sf.ValueState(float, default=0.0)
    ...     output = {"key": sf.String, "total": sf.Float64}
    ...     def on_event(self, event, ctx):
    ...         self.total.update(self.total.value() + event["value"])
    ...         ctx.emit({"key": ctx.key, "total": self.total.value()})

    Each subtask works with a copy of the process: keep in state what has to survive, and open resources in `open`.
    `output` gives the columns of emitted rows (a dict of types, a dataclass, TypedDict or NamedTuple); without it the
    rows are objects. `outputs` gives those of the side outputs by name; None there means objects.

    With `.on_error("skip")` or a sink for errors, an event or timer that raises puts out nothing; its changes of
    state before the error stay.
    """

    output: ClassVar[object] = None
    outputs: ClassVar[Mapping[str, object]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in declarations(cls).attributes & _METHODS:
            raise JobDefinitionError(
                f"{cls.__name__}: a state cannot be called {name!r}, which every process has",
                hint="call it otherwise",
            )

    def __setattr__(self, name: str, value: object) -> None:
        if name in declarations_of(type(self)).attributes:
            raise AttributeError(f"{name} is state: use self.{name}.update(…), .add(…) or .put(…)")
        if isinstance(value, Declaration):
            kind = cast("object", value).__class__.__name__
            raise JobDefinitionError(
                f"self.{name} = {kind}(…) declares no state",
                hint=f"declare it in the class, beside on_event: {name} = sf.{kind}(…)",
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in declarations_of(type(self)).attributes:
            raise AttributeError(f"{name} is state: use self.{name}.clear()")
        super().__delattr__(name)

    def open(self) -> None:
        """Called once in each subtask before its first event."""

    def on_event(self, event: Any, ctx: ProcessContext) -> None:
        """Called for each record of the key: a dict of the columns, or the dataclass or NamedTuple that `event` is
        annotated with; the object on a stream of objects."""
        raise JobDefinitionError(f"{type(self).__name__} has no on_event", hint="define it")

    def on_timer(self, timer: Timer, ctx: ProcessContext) -> None:
        """Called when a timer is due."""
        raise JobDefinitionError(
            f"{type(self).__name__} has set a timer and has no on_timer", hint="define it"
        )

    def on_broadcast(self, event: Any, ctx: ProcessContext) -> None:
        """Called in every subtask for each record of the broadcast input; only here BroadcastState may change.

        By arrival, nothing is said of the order of broadcast records and events; with `order="event_time"` they come
        in order of event time.
        """
        raise JobDefinitionError(f"{type(self).__name__} has no on_broadcast", hint="define it")

    def close(self) -> None:
        """Called once when the subtask ends, also after a failure."""


_METHODS: Final = frozenset(name for name in vars(KeyedProcess) if not name.startswith("_"))
"""Names that a state would hide."""
_declared: dict[type, Declared] = {}


def declarations_of(cls: type) -> Declared:
    """The states that a process class declares, cached."""
    found = _declared.get(cls)
    if found is None:
        found = _declared[cls] = declarations(cls)
    return found


@dataclass(frozen=True, eq=False)
class ProcessSpec(OperatorSpec):
    """A process over records partitioned by `keys`; a second input, if there is one, goes to all subtasks.

    `record_columns` are the columns of an event, without made key columns; None: events are objects in the column
    `WHOLE_RECORD`. `schema` is that of its output, `side` that of each side output.
    """

    kind: ClassVar[str] = "process"
    on_changes: ClassVar[OnChanges] = "take"
    calls_functions: ClassVar[bool] = True
    keys: tuple[str, ...]
    process: KeyedProcess
    record_columns: tuple[str, ...] | None
    schema: StreamSchema
    side: tuple[tuple[str, StreamSchema], ...] = ()
    order: ProcessOrder = "arrival"
    broadcast_columns: tuple[str, ...] | None = None
    null_keys: Literal["fail", "group"] = "fail"
    on_error: ErrorPolicy = "fail"
    shown_keys: tuple[str, ...] | None = None
    """The keys in the users' order, if a checkpoint has another order."""
    make_event: RowMaker | None = None
    """The function from an event's dict to the class that `on_event` is annotated with; None for a dict."""
    make_rule: RowMaker | None = None
    """The same for `on_broadcast`."""

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return StreamType(self.schema, timed=False).layout

    @property
    def has_timers(self) -> bool:
        """Whether the process can have timers: whether it overrides `on_timer`."""
        return type(self.process).on_timer is not KeyedProcess.on_timer

    @property
    def reads_watermarks(self) -> bool:
        return self.order == "arrival" and self.has_timers

    @property
    def declared(self) -> Declared:
        """The process's states."""
        return declarations_of(type(self.process))

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        timed = inputs[0].timed
        if inputs[0].changes and self.record_columns is not None and CHANGE not in self.record_columns:
            raise lack_of_kinds(
                "the events", "keep that column, or process the records that the result is made of"
            )
        if self.order == "event_time" and not timed:
            raise JobDefinitionError(
                "events should come in order of event time, and this stream has none",
                hint='give it when reading: job.read(source, event_time="column")',
            )
        for attribute, state in self.declared.keyed.items():
            if not timed and state.ttl is not None and state.ttl.clock == "event":
                raise JobDefinitionError(
                    f"state {attribute!r} expires by event time, and this stream has none",
                    hint='declare it with ttl_time="processing", or give event_time= when reading',
                )
        return StreamType(self.schema, timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        if output == ERRORS:
            return DEAD_LETTER_TYPE
        if output == LATE:
            return inputs[0]
        declared = {own_output(name): schema for name, schema in self.side}
        return StreamType(declared[output], inputs[0].timed)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        from streamflow.operators.process.operator import ProcessOperator

        return ProcessOperator(self, ctx, inputs)

    def own_process(self) -> KeyedProcess:
        """The process of one subtask."""
        try:
            process = copy.deepcopy(self.process)
        except BaseException as raised:
            cause = raised_by_user(raised)
            raise JobDefinitionError(
                f"{type(self.process).__name__} cannot be copied for a subtask: {described(cause)}",
                hint="make connections and the like in its open()",
            ) from raised
        own = vars(process)
        own["on_event"] = _called(process.on_event, "on_event", self.make_event)
        own["on_broadcast"] = _called(process.on_broadcast, "on_broadcast", self.make_rule)
        own["on_timer"] = silent(process.on_timer, "on_timer")
        return process

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {"keys": typed_keys(self.keys, inputs[0]), "states": self.declared.signature()}

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        mine = self.state_signature(inputs)
        return [
            *_key_differences(saved.get("keys", []), mine["keys"]),
            *state_differences(saved.get("states", {}), mine["states"]),
        ]

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        keys = state_order(self.keys, (name for name, _ in saved.get("keys", ())))
        return self if keys == self.keys else replace(self, keys=keys, shown_keys=self.keys)

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, self.keys) if port == 0 else InputNeeds(Layout.FRAME, broadcast=True)

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return False  # what it emits need not have its key

    def describe(self) -> str:
        order = "" if self.order == "arrival" else " in order of event time"
        return f"{type(self.process).__name__} by {', '.join(self.keys)}{order}"


def _called(
    method: Callable[[Any, ProcessContext], None], what: str, make: RowMaker | None
) -> Callable[[Any, ProcessContext], None]:
    called = silent(method, what)
    if make is None:
        return called
    return lambda event, ctx: called(make(event), ctx)


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
    """A process, or an instance of a process class; raises JobDefinitionError for anything else."""
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
