"""streamflow: an unbounded Polars DataFrame with event time, keyed state and no JVM."""

import importlib
import typing

from polars import (
    Binary,
    Boolean,
    Date,
    Datetime,
    Duration,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    List,
    String,
    Struct,
    Time,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    col,
    lit,
)

from streamflow.api.job import Job
from streamflow.api.keyed import KeyedStream
from streamflow.api.processed import ProcessedStream
from streamflow.api.stream import Stream
from streamflow.api.windowed import AggregatedStream, WindowedStream
from streamflow.core.schema import OBJECTS, Schema
from streamflow.distribution import __version__
from streamflow.errors import (
    ConfigError,
    JobDefinitionError,
    JobFailedError,
    RecordError,
    SinkError,
    SourceError,
    StateError,
    StreamflowError,
)
from streamflow.job_settings import setting
from streamflow.observe.status import JobResult, JobStatus
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.connectors.console import ConsoleSink
from streamflow.operators.connectors.function_sink import sink
from streamflow.operators.connectors.generator import source
from streamflow.operators.connectors.memory import MemorySource
from streamflow.operators.process.context import ProcessContext, Timer
from streamflow.operators.process.process import KeyedProcess
from streamflow.operators.requests.map_async import backoff
from streamflow.savepoints.bootstrap import bootstrap
from streamflow.savepoints.reading import SavedOperator, SavedState, read_checkpoint
from streamflow.state.keyed.descriptors import (
    AggregatingState,
    BroadcastState,
    ListState,
    MapState,
    ReducingState,
    ValueState,
)
from streamflow.time.timestamps import epoch
from streamflow.time.watermarks import bounded_disorder
from streamflow.windows.aggregates import (
    Aggregator,
    all,
    any,
    approx_n_unique,
    approx_quantile,
    collect_list,
    count,
    first,
    last,
    max,
    mean,
    min,
    n_unique,
    quantile,
    std,
    sum,
    top_k,
    var,
)
from streamflow.windows.assigners import (
    calendar,
    count_window,
    cumulative,
    fixed,
    global_window,
    session,
    sliding,
    tumbling,
)
from streamflow.windows.own_assigner import WindowAssigner
from streamflow.windows.triggers import (
    after_all,
    after_any,
    after_count,
    after_each,
    after_processing_time,
    after_watermark,
    never,
    repeatedly,
)

__all__ = [
    "OBJECTS",
    "AggregatedStream",
    "AggregatingState",
    "Aggregator",
    "AvroSchema",
    "Binary",
    "Boolean",
    "BroadcastState",
    "Collected",
    "ConfigError",
    "ConsoleSink",
    "DataGen",
    "Date",
    "Datetime",
    "Duration",
    "FileSink",
    "FileSource",
    "Float32",
    "Float64",
    "HybridSource",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Job",
    "JobDefinitionError",
    "JobFailedError",
    "JobResult",
    "JobStatus",
    "JoinedStream",
    "KafkaSecurity",
    "KafkaSink",
    "KafkaSource",
    "KeyedProcess",
    "KeyedStream",
    "List",
    "ListState",
    "MapState",
    "MatchedStream",
    "MemorySource",
    "Pattern",
    "ProcessContext",
    "ProcessedStream",
    "RecordError",
    "ReducingState",
    "SavedOperator",
    "SavedState",
    "Schema",
    "SchemaRegistry",
    "SinkError",
    "SourceError",
    "StateError",
    "Stream",
    "StreamflowError",
    "String",
    "Struct",
    "Table",
    "Time",
    "Timer",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "ValueState",
    "WindowAssigner",
    "WindowedStream",
    "__version__",
    "after_all",
    "after_any",
    "after_count",
    "after_each",
    "after_processing_time",
    "after_watermark",
    "all",
    "any",
    "approx_n_unique",
    "approx_quantile",
    "backoff",
    "bootstrap",
    "bounded_disorder",
    "calendar",
    "col",
    "collect_list",
    "count",
    "count_window",
    "cumulative",
    "epoch",
    "first",
    "fixed",
    "global_window",
    "last",
    "lit",
    "max",
    "mean",
    "min",
    "n_unique",
    "never",
    "pattern",
    "quantile",
    "read_checkpoint",
    "repeatedly",
    "session",
    "setting",
    "sink",
    "sliding",
    "source",
    "std",
    "step",
    "sum",
    "top_k",
    "tumbling",
    "var",
]

_LATER = {
    "AvroSchema": "operators.connectors.kafka.schema_registry",
    "DataGen": "operators.connectors.datagen",
    "FileSink": "operators.connectors.files.sink",
    "FileSource": "operators.connectors.files.source",
    "HybridSource": "operators.connectors.hybrid",
    "JoinedStream": "api.joined",
    "KafkaSecurity": "operators.connectors.kafka.cluster",
    "KafkaSink": "operators.connectors.kafka.sink",
    "KafkaSource": "operators.connectors.kafka.source",
    "MatchedStream": "api.patterns",
    "Pattern": "operators.patterns.pattern",
    "SchemaRegistry": "operators.connectors.kafka.schema_registry",
    "Table": "api.tables",
    "pattern": "operators.patterns.pattern",
    "step": "operators.patterns.references",
}
"""Name → module, imported at the name's first use: a program pays only for the rooms that it uses."""

if typing.TYPE_CHECKING:
    from streamflow.api.joined import JoinedStream
    from streamflow.api.patterns import MatchedStream
    from streamflow.api.tables import Table
    from streamflow.operators.connectors.datagen import DataGen
    from streamflow.operators.connectors.files.sink import FileSink
    from streamflow.operators.connectors.files.source import FileSource
    from streamflow.operators.connectors.hybrid import HybridSource
    from streamflow.operators.connectors.kafka.cluster import KafkaSecurity
    from streamflow.operators.connectors.kafka.schema_registry import AvroSchema, SchemaRegistry
    from streamflow.operators.connectors.kafka.sink import KafkaSink
    from streamflow.operators.connectors.kafka.source import KafkaSource
    from streamflow.operators.patterns.pattern import Pattern, pattern
    from streamflow.operators.patterns.references import step
else:

    def __getattr__(name: str) -> object:
        if name in _LATER:
            module = importlib.import_module(f"streamflow.{_LATER[name]}")
            globals()[name] = getattr(module, name)
            return globals()[name]

        from streamflow.api.other_names import ELSEWHERE, missing

        raise missing("streamflow", name, ELSEWHERE, __all__)


def __dir__() -> list[str]:
    """The names offered to users: no modules, which are imported by their full names."""
    return list(__all__)
