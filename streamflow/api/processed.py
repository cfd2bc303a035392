"""`ProcessedStream`: the output of a process and its side outputs, and how a keyed stream becomes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamflow.api.stream import Stream, builder_of, read_of, through
from streamflow.api.windowed import check_aggregator
from streamflow.arguments import text
from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.errors import JobDefinitionError, Where, cut, represented, unknown_name
from streamflow.graph.logical import Input, OperatorNode
from streamflow.operators.contract.operator import LATE, Layout, own_output
from streamflow.operators.process.process import (
    WHOLE_RECORD,
    KeyedProcess,
    ProcessOrder,
    ProcessSpec,
    declarations_of,
    process_instance,
)
from streamflow.operators.stateless.declared_schema import declared_schema
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.stateless.user_functions import (
    RowMaker,
    check_action,
    check_function,
    check_gives,
    row_maker,
)
from streamflow.state.keyed.descriptors import AggregatingState, ReducingState
from streamflow.windows.accumulators import pack, unpack

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.keying import Keying

__all__ = ["ProcessedStream", "processed"]


class ProcessedStream(Stream):
    """The rows that a process emits; the event time of a row is that of the event or timer that caused it."""

    def __init__(
        self, builder: GraphBuilder, read: Input, outputs: tuple[str, ...], columns: tuple[str, ...] | None
    ) -> None:
        """`columns` are the record's own, without key columns made by functions; None for objects."""
        super().__init__(builder, read)
        self._outputs = outputs
        self._columns = columns

    @property
    def late(self) -> Stream:
        """The records behind the watermark, unchanged.

        Raises JobDefinitionError unless `order="event_time"`: otherwise the process itself gets them.
        """
        node = self._builder.node(self._read.node)
        assert isinstance(node, OperatorNode)
        assert isinstance(node.spec, ProcessSpec)
        if node.spec.order != "event_time":
            raise JobDefinitionError(
                f"{node.id} has no late records: its process sees them as they arrive",
                hint='process(…, order="event_time") hands events over in order, and has late ones',
            )
        late = Stream(self._builder, Input(node.id, LATE))
        if self._columns is None:
            return late.map(_unpacked, schema=OBJECTS)
        whole = isinstance(late.schema, Schema) and tuple(late.schema) == self._columns
        return late if whole else late.select(*self._columns)

    def output(self, name: str) -> Stream:
        """A side output that the process declares in `outputs`; raises JobDefinitionError for any other name."""
        if text(name, "the name of an output") not in self._outputs:
            message, hint = unknown_name("output", name, self._outputs)
            raise JobDefinitionError(message, hint=f"{hint}, or declare it in the process's outputs")
        return Stream(self._builder, Input(self._read.node, own_output(name)))


def processed(
    keying: Keying, process: object, schema: object, broadcast: Stream | None, order: ProcessOrder
) -> ProcessedStream:
    """The output of a process behind a keyed stream; `KeyedStream.process` calls it."""
    if order not in ("arrival", "event_time"):
        raise JobDefinitionError(f"order is {order!r}", hint='choose "arrival" or "event_time"')
    own = process_instance(process)
    _check(own)
    _check_broadcast(own, broadcast)
    side = tuple((name, _schema(own, declared)) for name, declared in own.outputs.items())
    stream = keying.whole_records()
    reads: tuple[Input, ...] = (read_of(stream),)
    broadcast_columns: tuple[str, ...] | None = None
    make_rule: RowMaker | None = None
    if broadcast is not None:
        if builder_of(broadcast) is not builder_of(stream):
            raise JobDefinitionError("a process reads streams of two jobs", hint="read both in one sf.Job")
        make_rule = row_maker(own.on_broadcast, broadcast.type.schema, "process")
        if isinstance(broadcast.schema, Schema):
            broadcast_columns = tuple(broadcast.schema)
        else:
            broadcast = through(broadcast, Extract(((WHOLE_RECORD, _packed),), Layout.ROWS))
        reads = (*reads, read_of(broadcast))
    spec = ProcessSpec(
        keys=keying.keys,
        process=own,
        record_columns=keying.record_columns,
        schema=_schema(own, own.output if schema is None else schema),
        side=side,
        broadcast_columns=broadcast_columns,
        null_keys=keying.null_keys,
        order=order,
        make_event=row_maker(own.on_event, keying.record_schema, "process"),
        make_rule=make_rule,
    )
    builder = builder_of(stream)
    read = Input(builder.add_operator(spec, reads))
    return ProcessedStream(builder, read, tuple(name for name, _ in side), keying.record_columns)


def _check(process: KeyedProcess) -> None:
    """Refuses methods that would do nothing, or whose result would be thrown away, and functions of states that give
    none."""
    name = type(process).__name__
    for method in (process.on_event, process.on_timer, process.on_broadcast):
        check_action(method, f"{name}.{method.__name__}", arguments=2)
    for step in (process.open, process.close):
        check_function(step, f"{name}.{step.__name__}", arguments=0)
    for attribute, state in declarations_of(type(process)).keyed.items():
        if isinstance(state, ReducingState):
            check_gives(state.function, f"{name}.{attribute}", arguments=2)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif isinstance(state, AggregatingState):
            check_aggregator(state.aggregator)


def _check_broadcast(process: KeyedProcess, broadcast: object) -> None:
    """Refuses broadcast records that nothing takes, and a process that waits for some that nobody sends."""
    name, takes = type(process).__name__, type(process).on_broadcast is not KeyedProcess.on_broadcast
    if broadcast is None and takes:
        raise JobDefinitionError(
            f"{name} has on_broadcast, and no stream is broadcast to it",
            where=Where(operator="process"),
            hint=f"give the stream: process({name}, broadcast=rules)",
        )
    if broadcast is not None and not isinstance(broadcast, Stream):
        raise JobDefinitionError(
            f"broadcast is {cut(represented(broadcast), 60)}, and no stream",
            where=Where(operator="process"),
            hint="read it: job.read(source)",
        )
    if broadcast is not None and not takes:
        raise JobDefinitionError(
            f"{name} has no on_broadcast, and a stream is broadcast to it",
            where=Where(operator="process"),
            hint="define on_broadcast(self, event, ctx)",
        )


def _schema(process: KeyedProcess, declared: object) -> StreamSchema:
    return OBJECTS if declared is None else declared_schema(declared, process.on_event, flat=False)


def _packed(record: Any) -> bytes:
    return pack(record)


def _unpacked(row: Any) -> Any:
    return unpack(row[WHOLE_RECORD])
