"""kafka-soak: W1's windows from one Kafka topic to another, exactly once, for ten minutes at the highest rate that
lasts.

Generator, broker and job share this machine. The rate is looked for first: steps of a few seconds, each half as fast
again as the one before, until one is not kept up with, then two steps between the last that was and the first that was
not. A step is kept up with if, when its time is over, the job has read all but half a second of it. The job then
starts over and gets 90 % of that.

Judged: resident memory of the job's process over time, by least squares after a warm-up; the lag, that is what has
been acknowledged by the broker and not been read, in seconds of input; and that each 10 s of input are, event for
event, in the windows that a reader of committed records finds in the output.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.kafka.broker import broker, make_topic
from benchmarks.kafka.children import Child, children
from benchmarks.program import ProgramError

MINUTES = 10.0
FIRST_RATE = 100_000
HIGHEST_RATE = 2_000_000
FASTER = 1.5
STEP_SECONDS = 8.0
BEHIND_SECONDS = 0.5
SHARE = 0.9
CHECKPOINTS = "1s"
WARM_UP_SECONDS = 60.0
WARM_UP_SHARE = 0.2
RETENTION = {"retention.bytes": str(256 << 20), "segment.bytes": str(64 << 20)}
"""Of each partition: ten minutes of input need not lie on the disk."""

Lines = Sequence[dict[str, Any]]


def soak(say: Callable[[str], None], *, minutes: float = MINUTES) -> list[Figure]:
    """Finds the rate, holds it, and judges."""
    with broker() as bootstrap, TemporaryDirectory() as folder:
        highest = highest_rate(bootstrap, Path(folder), say)
        rate = int(SHARE * highest)
        say(
            f"kafka-soak: {highest:,} events/s is the most that was kept up with; {rate:,} for {minutes:g} min"
        )
        job, sent, result = held(bootstrap, Path(folder), rate, 60 * minutes)
    complete(sent[-1]["windows"], result)
    return [Figure("highest rate that was kept up with", highest, "events/s"), *judged(job, sent, rate)]


def highest_rate(bootstrap: str, folder: Path, say: Callable[[str], None]) -> int:
    """The highest rate of the steps that was kept up with. ProgramError where not even the first was."""
    topics = make_topic(bootstrap, "probe", RETENTION), make_topic(bootstrap, "probed")
    with children(folder) as start:
        job = counting(start, "running-probe", bootstrap, topics, folder)

        def keeps_up(rate: int) -> bool:
            before = job.lines()[-1]["read"]
            generator = start(f"generator-{rate}", bootstrap, topics[0], "replayed", rate, STEP_SECONDS)
            sent = generator.end(10 * STEP_SECONDS)
            lines = job.lines()
            late = late_seconds(sent, lines, before, rate, STEP_SECONDS)
            say(f"kafka-soak: {rate:,} events/s: {late:.2f} s behind after {STEP_SECONDS:g} s")
            total = before + sent[-1]["sent"]
            job.until("caught up", lambda line: line["read"] >= total, 10 * STEP_SECONDS)
            return late <= BEHIND_SECONDS

        return searched(keeps_up)


def searched(keeps_up: Callable[[int], bool]) -> int:
    """Faster and faster until it does not keep up, then two steps between; the highest at which it did."""
    good, rate = 0, FIRST_RATE
    while rate <= HIGHEST_RATE and keeps_up(rate):
        good, rate = rate, int(rate * FASTER)
    if not good:
        raise ProgramError(f"kafka-soak: not even {FIRST_RATE:,} events/s were kept up with")
    bad = rate
    for _ in range(2):
        middle = (good + bad) // 2
        if keeps_up(middle):
            good = middle
        else:
            bad = middle
    return good


def counting(
    start: Callable[..., Child], name: str, bootstrap: str, topics: tuple[str, str], folder: Path
) -> Child:
    """The job, running."""
    checkpoints = folder / f"{name}-checkpoints"
    job = start(name, "count", bootstrap, *topics, "exactly_once", CHECKPOINTS, checkpoints)
    job.until("run", lambda line: line["state"] == "running", 60)
    return job


def held(bootstrap: str, folder: Path, rate: int, seconds: float) -> tuple[Lines, Lines, dict[str, Any]]:
    """The reports of the job, the generator and the judge of the output for a rate that is held for so long."""
    topics = make_topic(bootstrap, "soak", RETENTION), make_topic(bootstrap, "soaked")
    with children(folder) as start:
        job = counting(start, "running-soak", bootstrap, topics, folder)
        sent = start("generator-soak", bootstrap, topics[0], "replayed", rate, seconds).end(seconds + 120)
        job.until("read everything", lambda line: line["read"] >= sent[-1]["sent"], 60)
        during = [line for line in job.lines() if line["at"] <= sent[-1]["at"]]
        job.end(60)
        result = start("judge-soak", bootstrap, topics[1], "windows").end(120)[-1]
    return during, sent, result


def late_seconds(sent: Lines, lines: Lines, before: int, rate: int, seconds: float) -> float:
    """How far the job's reading was behind the rate when a step's time was over: with the lag of the broker and of
    the generator, if it could not write that much. `sent` begins with the generator's start."""
    over = sent[0]["at"] + seconds
    read = at(over, [(line["at"], line["read"] - before) for line in lines])
    return seconds - read / rate


def complete(sent: dict[str, int], result: dict[str, Any]) -> None:
    """ProgramError where the windows do not hold exactly what was sent."""
    if result["again"]:
        raise ProgramError(f"kafka-soak: {result['again']:,} windows of a key came more than once")
    wrong = [
        start
        for start in sorted({*sent, *result["windows"]})
        if sent.get(start, 0) != result["windows"].get(start, 0)
    ]
    if wrong:
        first = wrong[0]
        raise ProgramError(
            f"kafka-soak: {len(wrong)} of {len(sent)} windows are wrong; the one at {first} has "
            f"{result['windows'].get(first, 0):,} events instead of {sent.get(first, 0):,}"
        )


def judged(job: Lines, sent: Lines, rate: int) -> list[Figure]:
    """Memory and lag after the warm-up, beside their targets."""
    begin, end = sent[0]["at"], sent[-1]["at"]
    after = begin + min(WARM_UP_SECONDS, WARM_UP_SHARE * (end - begin))
    steady = [line for line in job if after <= line["at"] <= end]
    minutes = [line["at"] / 60 for line in steady]
    memory = [line["mb"] for line in steady]
    written = [(line["at"], line["sent"]) for line in sent]
    lags = [max(0.0, at(line["at"], written) - line["read"]) / rate for line in steady]
    slope = linear_regression(minutes, memory).slope
    growth = 100 * slope / median(memory)
    lag = linear_regression(minutes, lags).slope
    took = max(line["checkpoints"] for line in job)
    return [
        Figure(f"rate held for {(end - begin) / 60:.1f} minutes", sent[-1]["sent"] / (end - begin), "events/s"),
        Figure("growth of memory after the warm-up", growth, "% a minute", "≤", figures.SOAK_MEMORY_PERCENT),
        Figure("memory, median", median(memory), "MB"),
        Figure("memory, most", max(memory), "MB"),
        Figure("growth of the lag", lag, "s of input a minute", "≤", figures.SOAK_LAG_SECONDS),
        Figure("lag, median", median(lags), "s of input"),
        Figure("lag, most", max(lags), "s of input"),
        Figure("checkpoints", took, ""),
        Figure("events, each once in the output's windows", sent[-1]["sent"], ""),
    ]  # fmt: skip


def at(moment: float, points: Sequence[tuple[float, float]]) -> float:
    """The value of a growing count at a moment, between the points that are known.

    >>> at(1.5, [(1.0, 10), (2.0, 20)])
    15.0
    """
    index = bisect_right(points, (moment, float("inf")))
    if index in (0, len(points)):
        return points[max(0, index - 1)][1]
    (t0, v0), (t1, v1) = points[index - 1], points[index]
    return v0 + (v1 - v0) * (moment - t0) / (t1 - t0)
