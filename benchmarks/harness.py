"""The harness: ours and each installed peer in turn over the same data, results checked, ratios beside their
targets.

`run("W1")`, `run("memory")`, or `run()` for everything. A failing program is reported and the rest goes on.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import before, checkpoints, data, footprint
from benchmarks.figures import read_each
from benchmarks.growth import growth
from benchmarks.joins import joins
from benchmarks.large_state import large_state
from benchmarks.pairing import compare
from benchmarks.program import Program, ProgramError, installed_peers, missing_peers, ours, run_fresh
from benchmarks.report import Report
from benchmarks.verify import Verifier
from benchmarks.workloads.table import WORKLOADS, Workload

OF_THEIR_OWN = ("patterns", "per_key", "windows")
"""Those that are programs of their own, and print their figures."""
ALONE = ("memory", "latency", "startup", "large_state", "checkpoints", "growth", "joins", *OF_THEIR_OWN)
KAFKA = ("K1", "kafka-latency", "kafka-soak")
NAMES = (*WORKLOADS, *ALONE, *KAFKA)
AGAINST_BEFORE = (*WORKLOADS, "K1", "latency", "checkpoints")
RELATIVE_TO_W1 = {"W2", "W3"}


@dataclass(frozen=True)
class Options:
    """How the benchmarks run."""

    events: int = 1_000_000
    rounds: int = 3
    peers: bool = True
    only: str | None = None
    """Only this peer."""
    slope: bool = False
    """Also over a fifth of the events, for the ratio without start-up."""
    mode: str = "streaming"
    parallelism: int = 1
    minutes: float = 10.0
    """How long kafka-soak holds its rate."""
    before: str | None = None
    """Instead of peers, an earlier commit."""

    def describe(self) -> str:
        than = f", as multiples of {self.before}" if self.before else ""
        return f"{self.mode} mode, parallelism {self.parallelism}{than}"


def run(
    name: str | None = None, options: Options | None = None, say: Callable[[str], None] = print
) -> Report:
    """Runs one benchmark, or all. Raises ValueError for a name that does not exist."""
    if name is not None and name not in NAMES:
        raise ValueError(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    options = options or Options()
    if options.before is not None:
        return _against_before(options.before, name, options, say)
    missing = missing_peers() if options.peers and name not in KAFKA else []
    report = Report(options.events, options.rounds, options.describe(), missing=missing)
    verifier = Verifier()
    for workload in WORKLOADS.values():
        if name in (None, workload.name):
            _run_workload(workload, options, verifier, report, say)
    for alone in ALONE:
        if name in (None, alone):
            say(alone)
            _guarded(partial(_add_figures, alone, verifier, report), report, say)
    for kafka in KAFKA:
        # Ten minutes only for who asks for them.
        if name == kafka or (name is None and kafka != "kafka-soak"):
            say(kafka)
            _guarded(partial(_add_kafka, kafka, options, verifier, report, say), report, say)
    return report


def _against_before(commit: str, name: str | None, options: Options, say: Callable[[str], None]) -> Report:
    chosen = [each for each in AGAINST_BEFORE if name in (None, each)]
    if not chosen:
        raise ValueError(f"{name} is not compared with commits; {', '.join(AGAINST_BEFORE)} are")
    report, verifier, rounds = (
        Report(options.events, options.rounds, options.describe()),
        Verifier(),
        options.rounds,
    )

    def measured() -> None:
        match each:
            case "K1":
                report.figures += before.kafka_reading(mine, options.events, tree, rounds, verifier, say)
            case "latency":
                report.figures += before.latency(tree, rounds)
            case "checkpoints":
                report.figures += before.checkpoints(tree, rounds, verifier)
            case _:
                files = _files(WORKLOADS[each], options.events, slope=True)
                report.figures += before.workload(mine, files, tree, rounds, verifier)

    with before.tree_of(commit) as tree:
        for each in chosen:
            say(f"{each}: in turn with {commit}")
            mine = ours(each, mode=options.mode, parallelism=options.parallelism)
            _guarded(measured, report, say)
    return report


def sources(workload: Workload, events: int) -> Path:
    """The workload's data; text is 100 bytes an event, at most 100 MB."""
    match workload.data:
        case "text":
            return data.text_lines(min(data.TEXT_BYTES, events * 100))
        case "parquet":
            return data.events_parquet(events)
        case "ndjson":
            data.events_parquet(events)  # the reference reads it
            return data.events_ndjson(events)


def _files(workload: Workload, events: int, *, slope: bool) -> tuple[Path, ...]:
    """The data; for a slope, a fifth of it, too."""
    sizes = (events, events // 5) if slope and workload.data != "text" else (events,)
    return tuple(sources(workload, size) for size in sizes)


def _run_workload(
    workload: Workload, options: Options, verifier: Verifier, report: Report, say: Callable[[str], None]
) -> None:
    files = _files(workload, options.events, slope=options.slope)
    mine = ours(workload.name, mode=options.mode, parallelism=options.parallelism)
    others: list[Program] = []
    if workload.name in RELATIVE_TO_W1:
        others.append(ours("W1", mode=options.mode, parallelism=options.parallelism))
    if options.peers:
        others += [peer for peer in installed_peers(workload.name) if options.only in (None, peer.name)]
    for other in others or [mine]:
        say(f"{workload.name}: {workload.title}; against {other.name} {other.workload}")
        _guarded(partial(_add_comparison, mine, other, files, options.rounds, verifier, report), report, say)


def _add_comparison(
    mine: Program, other: Program, files: tuple[Path, ...], rounds: int, verifier: Verifier, report: Report
) -> None:
    """Streaming peers take ten seconds and more a run, so they get fewer rounds and no warm-up."""
    slow = other.streaming_peer
    rounds = max(1, rounds // 3) if slow else rounds
    report.comparisons.append(compare(mine, other, files, rounds=rounds, verifier=verifier, warm_up=not slow))


def _add_figures(name: str, verifier: Verifier, report: Report) -> None:
    match name:
        case "memory":
            report.figures += footprint.memory(verifier)
        case "latency":
            report.figures += footprint.latency()
        case "startup":
            report.figures += footprint.startup()
        case "checkpoints":
            report.figures += checkpoints.checkpoints(verifier)
        case "large_state":
            report.figures += large_state()
        case "growth":
            report.figures += growth()
        case "joins":
            report.figures += joins()
        case _ if name in OF_THEIR_OWN:
            report.figures += read_each(run_fresh(name, [sys.executable, "-m", f"benchmarks.{name}"]))


def _add_kafka(
    name: str, options: Options, verifier: Verifier, report: Report, say: Callable[[str], None]
) -> None:
    from benchmarks.kafka.latency import latency
    from benchmarks.kafka.reading import reading
    from benchmarks.kafka.soak import soak

    match name:
        case "K1":
            report.comparisons += reading(
                options.events,
                options.rounds,
                verifier,
                say,
                mode=options.mode,
                parallelism=options.parallelism,
            )
        case "kafka-latency":
            report.figures += latency()
        case "kafka-soak":
            report.figures += soak(say, minutes=options.minutes)


def _guarded(measure: Callable[[], None], report: Report, say: Callable[[str], None]) -> None:
    try:
        measure()
    except ProgramError as failure:
        say(f"failed: {failure}")
        report.failures.append(str(failure).splitlines()[0])
