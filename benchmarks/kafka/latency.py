"""kafka-latency: from the append of an event to its input topic to the moment at which a reader of committed records
has its result, while 20,000 events a second are written.

Generator, job and judging reader are processes of their own. The append is the broker's own time (LogAppendTime, cut to
milliseconds, so that a latency is up to 1 ms too long rather than too short), the arrival is the reader's clock when
its fetch returns; both are this machine's clock. The job filters, projects and writes by key, with a checkpoint every
200 ms. Beside it stands the latency from when the event was due, which a generator that falls behind cannot hide.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.kafka.broker import broker, make_topic
from benchmarks.kafka.children import children
from benchmarks.program import ProgramError

RATE = 20_000
SECONDS = 30.0
WARM_UP_SECONDS = 5.0
CHECKPOINTS = "200ms"


def latency(*, seconds: float = SECONDS) -> list[Figure]:
    """Exactly once, then at least once."""
    with broker() as bootstrap:
        return [
            figure
            for delivery in ("exactly_once", "at_least_once")
            for figure in judged(delivery, measured(bootstrap, delivery, seconds))
        ]


def measured(bootstrap: str, delivery: str, seconds: float) -> dict[str, Any]:
    """The judge's report of one run."""
    source = make_topic(bootstrap, "input", {"message.timestamp.type": "LogAppendTime"})
    target = make_topic(bootstrap, "output")
    duration = WARM_UP_SECONDS + seconds
    with TemporaryDirectory() as folder, children(Path(folder)) as start:
        checkpoints = f"{folder}/checkpoints"
        job = start("running", "forward", bootstrap, source, target, delivery, CHECKPOINTS, checkpoints)
        judge = start(
            "judge", bootstrap, target, "latency", int(RATE * duration), int(RATE * WARM_UP_SECONDS)
        )
        job.until("run", lambda line: line["state"] == "running", 60)
        generator = start("generator", bootstrap, source, "stamped", RATE, duration)
        sent = generator.end(duration + 60)
        said = judge.end(60)[-1]
        job.end(60)
    return said | {"rate": sent[-1]["sent"] / (sent[-1]["at"] - sent[0]["at"])}


def judged(delivery: str, said: dict[str, Any]) -> list[Figure]:
    """Its figures beside their targets. ProgramError where records are missing, or came twice although they must not:
    then no latency counts."""
    exactly = delivery == "exactly_once"
    what = delivery.replace("_", " ")
    if said["missing"] or (exactly and said["duplicates"]):
        raise ProgramError(
            f"kafka-latency, {what}: {said['missing']:,} records missing, {said['duplicates']:,} twice"
        )
    p50 = figures.KAFKA_EXACTLY_ONCE_P50_MS if exactly else None
    p99 = figures.KAFKA_EXACTLY_ONCE_P99_MS if exactly else figures.KAFKA_AT_LEAST_ONCE_P99_MS
    appended, due = said["from_append_ms"], said["from_due_ms"]
    return [
        Figure(f"{what}: latency p50, from append to committed and read", appended["p50"], "ms", "≤", p50),
        Figure(f"{what}: latency p99", appended["p99"], "ms", "≤", p99),
        Figure(f"{what}: longest", appended["max"], "ms"),
        Figure(f"{what}: latency p99, from when the event was due", due["p99"], "ms"),
        Figure(f"{what}: rate held", said["rate"], "events/s", "≥", figures.KAFKA_LATENCY_RATE),
    ]
