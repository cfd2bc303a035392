"""`ProcessedStream`: what a process puts out, and its side outputs; and how a keyed stream becomes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamflow.api.stream import Stream
from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.graph.logical import Input
from streamflow.operators.extract import Extract
from streamflow.operators.functions import declared_schema
from streamflow.operators.process import WHOLE_RECORD, KeyedProcess, ProcessSpec, process_instance
from streamflow.records.schema import OBJECTS, Schema, StreamSchema
from streamflow.windows.accumulators import pack

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.keyed import KeyedStream

__all__ = ["ProcessedStream", "processed"]


class ProcessedStream(Stream):
    """The rows that a process emits; their event time is that of the event or timer that gave rise to them."""

    def __init__(self, builder: GraphBuilder, read: Input, outputs: tuple[str, ...]) -> None:
        super().__init__(builder, read)
        self._outputs = outputs

    def output(self, name: str) -> Stream:
        """A side output that the process declares in `outputs`; raises JobDefinitionError for another name."""
        if name not in self._outputs:
            message, hint = unknown_name("output", name, self._outputs)
            raise JobDefinitionError(message, hint=f"{hint}, or declare it in the process's outputs")
        return Stream(self._builder, Input(self._read.node, name))


def processed(
    keyed: KeyedStream, process: object, schema: object, broadcast: Stream | None
) -> ProcessedStream:
    """What `KeyedStream.process` does."""
    own = process_instance(process)
    side = tuple((name, _schema(own, declared)) for name, declared in own.outputs.items())
    stream, functions = keyed.stream, keyed.functions
    if keyed.record_columns is None:
        functions = (*functions, (WHOLE_RECORD, _packed))
    if functions:
        stream = stream.apply(Extract(columns=functions))
    reads: tuple[Input, ...] = (stream.read,)
    broadcast_columns: tuple[str, ...] | None = None
    if broadcast is not None:
        if broadcast.builder is not stream.builder:
            raise JobDefinitionError("a process reads streams of two jobs", hint="read both in one sf.Job")
        if isinstance(broadcast.schema, Schema):
            broadcast_columns = tuple(broadcast.schema)
        else:
            broadcast = broadcast.apply(Extract(columns=((WHOLE_RECORD, _packed),)))
        reads = (*reads, broadcast.read)
    spec = ProcessSpec(
        keys=keyed.keys,
        process=own,
        record_columns=keyed.record_columns,
        schema=_schema(own, own.output if schema is None else schema),
        side=side,
        broadcast_columns=broadcast_columns,
        null_keys=keyed.null_keys,
    )
    builder = stream.builder
    return ProcessedStream(builder, Input(builder.add_operator(spec, reads)), tuple(name for name, _ in side))


def _schema(process: KeyedProcess, declared: object) -> StreamSchema:
    return OBJECTS if declared is None else declared_schema(declared, process.on_event, flat=False)


def _packed(record: Any) -> bytes:
    return pack(record)
