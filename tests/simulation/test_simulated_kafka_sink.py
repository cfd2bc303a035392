"""The Kafka sink in seeded lives on a simulated cluster: crashes, ends of transactions that come late, twice or never.

Two faults are planted that real systems have had; the simulator has to find them.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.disk import Disk
from streamflow.operators.connectors.kafka.clients.port import LogWriter, ProducedRecords, TopicPartition
from streamflow.operators.connectors.kafka.marker import Marker
from streamflow.operators.connectors.kafka.publication import KafkaCommitter
from streamflow.testing.simulation.campaign import Campaign, simulate
from streamflow.testing.simulation.run import expected_results
from streamflow.testing.simulation.scenario import Scenario
from tests.kafka.simulated_client import SimKafka
from tests.kafka.simulated_log import LogOdds, SimLog
from tests.simulation.jobs import read

ODDS = LogOdds(unanswered=0.1, delayed=0.1, lost=0.05, repeated=0.1, down=0.01, latency=0.002)
# Restoring an older checkpoint than the newest is refused, as it should be: its output is ahead.
NO_ROT = {"rot": 0}
MOST = 300


PLANTED_ODDS = LogOdds(unanswered=0.1, delayed=0.1, lost=0.2, repeated=0.4, latency=0.002)


class Input(SimLog):
    """With a topic to read, of two partitions: records, and among them what was aborted."""

    def begin(self, seed: int | str, *, calm: bool = False) -> None:
        super().begin(seed, calm=calm)
        self.create("events", 2)
        for number in range(60):
            partition = TopicPartition("events", number % 2)
            at = f"2013-01-01T00:00:{number:02}Z"
            value = json.dumps({"key": "abcde"[number % 5], "value": number, "at": at}).encode()
            producer, epoch = self.start_producer("input")
            self.append(producer, epoch, ProducedRecords(partition, [value], [None], [None], [()]), 0)
            self.end_transaction(producer, epoch, "abort" if number % 7 == 0 else "commit")


def a_job() -> sf.Job:
    job = sf.Job("windows")
    windows = read(job).key_by("key").window(sf.tumbling("5s"))
    windows.aggregate(n=sf.count(), total=sf.sum("value")).collect()
    return job


def a_campaign(log: SimLog) -> dict[str, Any]:
    sink = sf.KafkaSink("totals", key="key", client=SimKafka(log), create={"partitions": 3})

    def public(_: Disk) -> list[Any]:
        return [json.loads(entry.value or b"") for entry in log.committed("totals")]

    return {"sinks": {"write-1": (sink, public)}, "beside": [log], "odds": NO_ROT}


def test_from_topic_to_topic() -> None:
    log = Input(ODDS)
    schema = {"key": pl.String, "value": pl.Int64, "at": pl.Datetime("us", "UTC")}
    source = sf.KafkaSource("events", schema=schema, end="latest", client=SimKafka(log))
    job = sf.Job("topics")
    stream = job.read(source, event_time="at", watermark=sf.bounded_disorder("4s"))
    windows = stream.key_by("key").window(sf.tumbling("5s"))
    windows.aggregate(n=sf.count(), total=sf.sum("value")).collect()
    campaign = a_campaign(log)
    simulate(job, seeds=15, sources=["read-1"], **campaign)
    entries = log.committed("totals")
    assert sum(json.loads(entry.value or b"")["n"] for entry in entries) == 60 - 9


def test_every_result_is_public_once() -> None:
    log = SimLog(ODDS)
    simulation = simulate(a_job(), seeds=40, **a_campaign(log))
    for point in ("kafka.fenced", "kafka.marker_read", "kafka.begun", "kafka.sent", "kafka.committed"):
        assert simulation.crashed[point], f"no process has died at {point}"
    befallen = ("answer lost", "end delayed", "end lost", "end repeated", "brokers down", "late end refused")
    for what in befallen:
        assert log.happened[what], f"it never came to this: {what}"


def test_what_is_right_is_found_out_in_calm() -> None:
    log = SimLog(LogOdds(lost=1.0))
    sink = a_campaign(log)
    expected = expected_results(Scenario(a_job(), sinks=sink["sinks"], beside=[log]), {})
    assert len(expected["write-1"]) == len(log.committed("totals")) > 0
    assert not log.happened


def one_producer_for_life(patch: pytest.MonkeyPatch) -> None:
    """As long as nothing goes wrong the producer is kept: a late end of its last transaction ends the next halfway."""
    attempt = KafkaCommitter._attempt

    class Kept:
        """A client whose writers are one."""

        def __init__(self, client: Any) -> None:
            self._client = client
            self._writer: LogWriter | None = None

        def writer(self, **options: Any) -> Any:
            kept = self

            class Reused:
                async def start(self) -> None:
                    if kept._writer is None:
                        writer = kept._client.writer(**options)
                        await writer.start()
                        kept._writer = writer

                async def close(self) -> None:
                    """It lives on."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(kept._writer, name)

            return Reused()

    async def attempted(committer: KafkaCommitter, *arguments: Any) -> Marker:
        if not isinstance(committer._client, Kept):
            committer._client = Kept(committer._client)  # type: ignore[assignment]
        try:
            return await attempt(committer, *arguments)
        except BaseException:
            committer._client._writer = None  # type: ignore[attr-defined]
            raise

    patch.setattr(KafkaCommitter, "_attempt", attempted)


def marker_not_read(patch: pytest.MonkeyPatch) -> None:
    """A fault: a committer that does not know an epoch's outcome publishes it again."""
    attempt = KafkaCommitter._attempt

    async def attempted(committer: KafkaCommitter, wanted: Any, sealed: Any, _: Any, sending: int) -> Marker:
        return await attempt(committer, wanted, sealed, lambda _: "publish", sending)

    patch.setattr(KafkaCommitter, "_attempt", attempted)


# Seeds before the first one find nothing.
@pytest.mark.parametrize(("plant", "first"), [(one_producer_for_life, 70), (marker_not_read, 0)])
def test_a_planted_fault_is_found(plant: Any, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    campaign = Campaign(a_job(), **a_campaign(SimLog(PLANTED_ODDS)))
    failures = (outcome.failure for outcome in campaign.run(range(first, MOST), shrinking=False))
    failure = next((each for each in failures if each is not None), None)
    assert failure is not None, f"not found in {MOST} seeds"
