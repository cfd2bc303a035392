"""streamflow: an unbounded Polars DataFrame with event time, exactly-once state and no JVM."""

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
from streamflow.api.stream import Stream
from streamflow.api.windowed import AggregatedStream, WindowedStream
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
from streamflow.operators.async_io import backoff
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.connectors.console import ConsoleSink
from streamflow.operators.connectors.datagen import DataGen
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.connectors.function_sink import sink
from streamflow.operators.connectors.generator import source
from streamflow.operators.connectors.memory import MemorySource
from streamflow.records.schema import OBJECTS, Schema
from streamflow.runtime.status import JobResult, JobStatus
from streamflow.time.timestamps import epoch
from streamflow.time.watermarks import bounded_disorder
