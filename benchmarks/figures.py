"""The targets of the benchmarks, and one measured figure beside its target.

A ratio above 1 means that streamflow is the faster one. Targets on ratios to streaming peers hold without
start-up and, further, for the whole process.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

INSIDE_TARGETS = {
    ("W1", "polars"): 0.6,
    ("W1p", "polars"): 0.2,
    ("W4", "polars"): 0.4,
    ("W1py", "hand loop"): 0.8,
    ("W2", "W1"): 0.6,
    ("W3", "W1"): 0.35,
    ("K1", "aiokafka getmany"): 0.8,
    ("K1c", "aiokafka getmany"): 2.0,
} | {
    (workload, peer): target
    for workload in ("W1", "W1p", "W2", "W3", "W4")
    for peer, target in (("pyflink sql", 2.0), ("pyspark", 2.0), ("bytewax", 20.0))
}
"""(workload, compared with): least ratio of speeds without start-up."""

STREAMING_PEERS_WHOLE_TARGET = 4.0
BEFORE_RATIO = 0.97
MEMORY_MB = 450.0
MEMORY_GROWTH = 1.1
LARGE_STATE_MB = 950.0
LATENCY_P99_MS = 60.0
CHECKPOINTS_RATIO = 0.9
ON_EVENT_RATE = 250_000
PAUSE_MS = 20.0
RECOVERY_P50_SECONDS = 0.3
RECOVERY_P99_SECONDS = 1.0
KAFKA_EXACTLY_ONCE_P50_MS = 300.0
KAFKA_EXACTLY_ONCE_P99_MS = 800.0
KAFKA_AT_LEAST_ONCE_P99_MS = 60.0
KAFKA_LATENCY_RATE = 19_600
SOAK_MEMORY_PERCENT = 1.0
SOAK_LAG_SECONDS = 0.05
IMPORT_SECONDS = 0.5
DEMO_SECONDS = 4.0


@dataclass(frozen=True)
class Figure:
    """A measured value; with a target also whether it was reached."""

    name: str
    value: float
    unit: str
    sense: Literal["≥", "≤"] = "≥"
    target: float | None = None

    @property
    def reached(self) -> bool | None:
        """None where there is no target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "≥" else self.value <= self.target

    def cells(self) -> list[str]:
        """name, value, target, verdict."""
        target = "" if self.target is None else f"{self.sense} {_shown(self.target)} {self.unit}".rstrip()
        verdict = {None: "", True: "yes", False: "NO"}[self.reached]
        value = f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.3g}"
        return [self.name, f"{value} {self.unit}".rstrip(), target, verdict]


def _shown(target: float) -> str:
    return f"{target:,}" if isinstance(target, int) else f"{target:g}"


def print_each(figures: Iterable[Figure]) -> None:
    """Prints figures as they come, one a line, for people and for `read_each`."""
    for figure in figures:
        print(json.dumps(asdict(figure), ensure_ascii=False), flush=True)


def read_each(printed: str) -> list[Figure]:
    """The figures of a process that has printed them."""
    return [Figure(**json.loads(line)) for line in printed.splitlines() if line.startswith("{")]
