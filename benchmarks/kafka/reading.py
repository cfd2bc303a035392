"""K1: W1 over a Kafka topic, through each client, against aiokafka's bare `getmany` over the same topic.

In each round all three read it in turn, and then all three a topic with a fifth of the events, so that there is a
slope: the time per additional event, without start-up. The programs connect, look up the topic's ends and read; all
are measured from their imports to their last record, or result.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import replace

from benchmarks import data
from benchmarks.kafka.broker import broker, fill, make_topic
from benchmarks.pairing import Comparison, Pair
from benchmarks.program import Measurement, Program, ProgramError, measure, ours
from benchmarks.verify import Verifier

RAW = Program("aiokafka getmany", "benchmarks.kafka.raw_reading", "K1")


def reading(
    events: int, rounds: int, verifier: Verifier, say: Callable[[str], None], *, mode: str, parallelism: int
) -> list[Comparison]:
    """A comparison for each client that is installed; every result of ours is verified."""
    programs = [ours("K1", mode=mode, parallelism=parallelism)]
    if importlib.util.find_spec("confluent_kafka"):
        programs.append(ours("K1c", mode=mode, parallelism=parallelism))
    return in_turn(programs, RAW, events, rounds, verifier, say)


def in_turn(
    programs: list[Program],
    other: Program,
    events: int,
    rounds: int,
    verifier: Verifier,
    say: Callable[[str], None],
) -> list[Comparison]:
    """Each of the programs against the other one, over topics of one broker."""
    sizes = (events, events // 5)
    for size in sizes:
        data.events_parquet(size)  # what the check of the result reads
    with broker() as bootstrap:
        topics = {size: make_topic(bootstrap, "events") for size in sizes}
        for size, topic in topics.items():
            fill(bootstrap, topic, data.events_ndjson(size))

        def once(program: Program, size: int) -> Measurement:
            there = {"STREAMFLOW_BENCH_BOOTSTRAP": bootstrap, "STREAMFLOW_BENCH_TOPIC": topics[size]}
            program = replace(program, environment=program.environment | there)
            source = data.events_ndjson(size)
            if program.name != RAW.name:
                return verifier.measure(program, source)
            return all_of(measure(program, source), size)

        for program in (*programs, other):
            once(program, events)
        pairs: dict[str, list[Pair]] = {program.workload: [] for program in programs}
        for number in range(rounds):
            say(f"K1: round {number + 1} of {rounds}")
            mine = {size: [once(program, size) for program in programs] for size in sizes}
            theirs = {size: once(other, size) for size in sizes}
            for index, program in enumerate(programs):
                of_mine = [mine[size][index] for size in sizes]
                pair = Pair(of_mine[0], theirs[sizes[0]], of_mine[1], theirs[sizes[1]])
                pairs[program.workload].append(pair)
    return [Comparison(program, other, pairs[program.workload]) for program in programs]


def all_of(measured: Measurement, events: int) -> Measurement:
    """A reader that did not read everything has measured nothing."""
    if measured.events != events:
        raise ProgramError(f"{RAW.name}: read {measured.events:,} of {events:,} records")
    return measured
