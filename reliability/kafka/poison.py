"""One record in a hundred is poison: the job goes on, and each bad record is among the dead letters, once, as it was.

The job is killed a few times on its way, so that dead letters have to be in the same transaction as everything else.
"""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

import streamflow as sf
from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account
from reliability.flow import EVENT, events
from reliability.kafka.flow import ORDER, PARTITIONS, PASSED, Site
from reliability.kafka.log import make_topics, produce, read_committed, read_output
from reliability.kafka.verdict import compare
from reliability.kafka.victims import commits, start, until
from reliability.pacing import Pace, Paced
from streamflow.operators.connectors.kafka.clients.port import KafkaClient
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.connectors.kafka.source import KafkaSource

RECORDS = 1_000_000
ONE_IN = 100
KILLS = 3
LARGEST = 8 << 10
"""Bytes; what is longer is poison."""
BATCH_ROWS = 8192

Made = Callable[[dict[str, Any]], bytes]


KINDS: dict[str, Made] = {
    "cut off": lambda event: json.dumps(event).encode()[:-3],
    "no JSON": lambda event: b"id=%d \xff\xfe" % event["id"],
    "nothing": lambda event: b"",
    "zeros": lambda event: bytes(16),
    "a list": lambda event: json.dumps(list(event.values())).encode(),
    "a word for a number": lambda event: json.dumps(event | {"value": "many"}).encode(),
    "two in one": lambda event: json.dumps(event).encode() + b"\n" + json.dumps(event).encode(),
    "something behind it": lambda event: json.dumps(event).encode() + b"}",
    "nested deeply": lambda event: (
        json.dumps(event).encode()[:-1] + b', "more": ' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    ),
    "brackets only": lambda event: b"[" * 4000,
    "oversize": lambda event: json.dumps(event | {"more": "x" * LARGEST}).encode(),
    "open text": lambda event: json.dumps(event).encode().replace(b'"}', b"}").rstrip(b"}") + b', "more": "',
}
"""The kinds of poison, each made from a good event."""


def job_of(site: Site, pace: Pace | None = None, client: str | KafkaClient = "aiokafka") -> sf.Job:
    """The job: each good record into one topic, each bad one into another."""
    job = sf.Job(site.name)
    source = KafkaSource(site.source, site.bootstrap, schema=EVENT, end="latest", max_record_bytes=LARGEST)
    read = job.read(Paced(source, pace or Pace())).on_error(_sink(site, "letters", client))
    read.select(*PASSED).write(_sink(site, "events", client, key="key"))
    return job


def _sink(site: Site, output: str, client: str | KafkaClient, **options: Any) -> KafkaSink:
    return KafkaSink(
        site.target(output), site.bootstrap, delivery="exactly_once", client=client, patience="1m", **options
    )


def poisoned(
    frame: pl.DataFrame, chance: random.Random
) -> tuple[list[bytes], dict[int, str], dict[int, bytes]]:
    """The records' values, which of them (by number) are of which kind of poison, and what these are.

    A few good ones are written over several lines, which is JSON as well.
    """
    values = frame.write_ndjson().encode().splitlines()
    chosen = chance.sample(range(len(values)), len(values) // ONE_IN)
    kinds = list(KINDS)
    poison = {number: kinds[n % len(kinds)] for n, number in enumerate(chosen)}
    rows = frame[list(poison)].to_dicts()
    bad = {number: KINDS[kind](event) for (number, kind), event in zip(poison.items(), rows, strict=True)}
    for number, value in bad.items():
        values[number] = value
    for number in set(chance.sample(range(len(values)), len(values) // 1_000)) - bad.keys():
        values[number] = values[number].replace(b",", b",\r\n\n ")
    return values, poison, bad


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: 100,000 records instead of a million."""
    count = RECORDS // 10 if quick else RECORDS
    chance = random.Random(account.seed)
    account.say(f"seed {account.seed}")
    frame = events(count, account.seed)
    values, poison, bad = poisoned(frame, chance)
    partitions = (frame["key"].str.strip_prefix("key-").cast(pl.Int64) % PARTITIONS).to_list()
    with LocalBroker() as broker:
        site = Site(folder / "kafka-poison", broker.bootstrap, "poison")
        names = {site.source: PARTITIONS, site.target("events"): PARTITIONS, site.target("letters"): 1}
        make_topics(site.bootstrap, names)
        produce(site.bootstrap, site.source, values, frame["key"].to_list(), partitions)
        stopped = _run_it(account, site, chance)
        good = frame.select(*PASSED).filter(~pl.int_range(pl.len()).is_in(list(poison)))
        verdict = compare("events", read_output(site, "events"), good, ORDER["events"])
        missing, wrong = _letters(site, poison, bad, partitions, account)
    account.add(
        Figure("records, of which 1 % are poison", count, ""),
        Figure("times that the job stopped by itself", stopped, "", "≤", 0),
        Figure("dead letters, each with its origin", len(poison) - missing, "", "≥", len(poison)),
        Figure("dead letters duplicated or wrong", wrong, "", "≤", 0),
        Figure("good rows lost", verdict.lost, "", "≤", 0),
        Figure("good rows duplicated or wrong", verdict.surplus, "", "≤", 0),
        Figure("good rows out of order within their key", verdict.disordered, "", "≤", 0),
    )
    account.note(f"kinds: {', '.join(KINDS)}; {KILLS} kill -9 on the way")
    if not verdict.right:
        account.fail(f"seed {account.seed}: {verdict}")
    elif not account.failed:
        shutil.rmtree(site.root)


def _run_it(account: Account, site: Site, chance: random.Random) -> int:
    """The job to its end, over a few kills; how often it stopped for another reason."""
    for _ in range(KILLS):
        # The pause makes sure that it does not end before it can be killed.
        victim = start(site, job="poison", pause=0.1, batch_rows=BATCH_ROWS // 4)
        if not until(victim, lambda v=victim: len(commits(v)) >= 2, 30):  # type: ignore[misc]
            account.fail(f"{site.root}: it publishes nothing: {victim.kill_after(0)}")
            return 1
        time.sleep(chance.uniform(0.0, 0.3))
        killed = victim.kill_after(0)
        if not killed.killed:
            account.fail(f"{site.root}: {killed}")
            return 1
    ended = start(site, job="poison", batch_rows=BATCH_ROWS, interval="500ms").wait(180)
    if ended.code != 0:
        account.fail(f"{site.root}: {ended}")
    return int(ended.code != 0)


def _letters(
    site: Site, poison: dict[int, str], bad: dict[int, bytes], partitions: Sequence[int], account: Account
) -> tuple[int, int]:
    """How many dead letters are missing, and how many are there too often or are not what they should be."""
    # An idempotent producer into a new topic: a partition's offsets count its records.
    seen, expected = Counter[int](), Counter[tuple[int, int, bytes]]()
    kinds: dict[tuple[int, int], str] = {}
    for number, partition in enumerate(partitions):
        if number in bad:
            expected[partition, seen[partition], bad[number]] += 1
            kinds[partition, seen[partition]] = poison[number]
        seen[partition] += 1
    found = Counter[tuple[int, int, bytes]]()
    for message in read_committed(site.bootstrap, site.target("letters"))[0]:
        headers = dict(message.headers() or ())
        partition = int(headers["streamflow.origin.partition"])
        found[partition, int(headers["streamflow.origin.offset"]), message.value()] += 1
    missing, surplus = expected - found, found - expected
    for what, which in (("missing", missing), ("too many or wrong", surplus)):
        if which:
            by_kind = Counter(kinds.get(each[:2], "good") for each in which)
            account.fail(
                f"dead letters {what}: {by_kind.most_common()}, such as {str(next(iter(which)))[:300]}"
            )
    return missing.total(), surplus.total()
