"""The table of workloads, shared by streamflow's programs, the peers, the reference and the harness."""

from dataclasses import dataclass
from typing import Literal

SIZE_MS = 10_000
SLIDING_MS = 60_000
GAP_MS = 5_000
DISORDER_MS = 5_000
PARTITIONS = 4


@dataclass(frozen=True)
class Workload:
    """One row of the table: a name, the data it reads, and which arithmetic its result must equal."""

    name: str
    title: str
    data: Literal["ndjson", "parquet", "text"]
    result: Literal["tumbling", "sliding", "session", "words"]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "tumbling 10 s, count and sum, ndjson", "ndjson", "tumbling"),
        Workload("W1p", "W1 from Parquet", "parquet", "tumbling"),
        Workload("W1py", "W1 with Python functions: key and summed value", "ndjson", "tumbling"),
        Workload("W1fn", "W1py with a Python filter and map in front", "ndjson", "tumbling"),
        Workload("W2", "sliding 60 s every 10 s, ndjson", "ndjson", "sliding"),
        Workload("W3", "session, gap 5 s, ndjson", "ndjson", "session"),
        Workload("W4", "word count over lines of text", "text", "words"),
    )
}

KAFKA_WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("K1", "W1 from a Kafka topic of 4 partitions", "ndjson", "tumbling"),
        Workload("K1c", "K1 with confluent-kafka", "ndjson", "tumbling"),
    )
}
"""These need a broker; the file is what was put into the topic."""
