"""Jobs in seeded lives: the reference jobs come to what they should, a seed is one trace, a wrong job is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamflow as sf
from streamflow.errors import JobDefinitionError
from streamflow.testing import simulate
from streamflow.testing.simulation.campaign import Campaign
from tests.simulation.jobs import JOBS, TRIGGERED, arriving, campaign, events, read

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1100, 1170)
ONE_JOB = {"rows": 32, "odds": {"most_parallel": 2}}


@pytest.mark.parametrize("name", JOBS)
def test_a_reference_job_survives(name):
    simulation = simulate(JOBS[name], seeds=5)
    assert simulation.failures == []
    assert simulation.processes > 8
    assert sum(simulation.crashed.values()) > 3


@pytest.mark.parametrize("name", TRIGGERED)
def test_windows_with_triggers_survive(name):
    assert [outcome.failure for outcome in campaign(name).run(range(3))] == [None] * 3


def test_a_process_sees_what_arrives_in_one_order_alike_in_every_life():
    """Arrival is one order where there is one split; what fires between the events is the same at any parallelism."""
    simulation = simulate(arriving, seeds=10, odds={"splits": 1})
    assert simulation.failures == []
    assert sum(simulation.crashed.values()) > 3


def test_a_disk_that_fails_all_the_time_gives_no_wrong_result():
    simulation = simulate(JOBS["totals"], seeds=10, odds={"faults": 0.9, "rot": 0.3})
    assert simulation.failures == []
    assert simulation.refused


@pytest.fixture(scope="module")
def lives() -> tuple[Campaign, dict[int, str]]:
    """Seventy of one job, and the digest of each one's trace."""
    campaign = Campaign(JOBS["tumbling"], **ONE_JOB)
    digests = [outcome.digest for outcome in campaign.run(SEEDS)]
    return campaign, dict(zip(SEEDS, digests, strict=True))


@pytest.mark.slow
def test_every_point_of_the_protocol_is_crashed_at(lives):
    simulation = lives[0].simulation
    assert simulation.failures == []
    assert simulation.never_crashed_at == []
    assert {
        "checkpoint.complete",
        "commit.after",
        "commit.before",
        "commit.renamed",
        "commit.sink_done",
        "epoch.begun",
        "manifest.before",
        "manifest.named",
        "manifest.published",
        "manifest.written",
        "restore.committed",
        "restore.opened",
        "retain.blob_removed",
        "retain.manifest_removed",
        "store.blob_written",
        "subtask.aligned",
        "subtask.snapshotted",
        "subtask.stored",
    } <= set(simulation.crashed)


@pytest.mark.slow
def test_the_same_seed_is_the_same_trace_whatever_ran_before_it(lives):
    digests = lives[1]
    again = SEEDS[::-7]
    traces = [outcome.digest for outcome in Campaign(JOBS["tumbling"], **ONE_JOB).run(again)]
    assert traces == [digests[seed] for seed in again]
    assert len(set(digests.values())) == len(SEEDS)


def test_the_trace_does_not_depend_on_the_process():
    program = (
        "from tests.simulation.jobs import JOBS\n"
        "from streamflow.testing.simulation import Campaign\n"
        "print(*[outcome.digest for outcome in Campaign(JOBS['union']).run(range(3))])"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1


class Numbered(sf.KeyedProcess):
    """Depends on the order in which events come."""

    count = sf.ValueState(int, default=0)

    def on_event(self, event, ctx):
        self.count.update(self.count.value() + 1)
        ctx.emit({"key": ctx.key, "value": event["value"], "number": self.count.value()})


def numbered() -> sf.Job:
    job = sf.Job("numbered")
    read(job, bound="20s").key_by("key").process(Numbered).collect()
    return job


def test_a_job_that_depends_on_the_order_is_told_with_the_simplest_life():
    with pytest.raises(AssertionError) as caught:
        simulate(numbered(), seeds=10)
    told = str(caught.value)
    assert "the results are not those of the batch run" in told
    assert "'number': 2" in told
    assert re.search(r"replay: simulate\(job, seeds=\[\d\]\)", told)
    simplest = told[told.index("the simplest life") : told.index("its last events")]
    assert "nothing befalls it" in simplest
    records = simplest[simplest.index("only these records of read-1: ") :].splitlines()[0]
    assert records.count(",") + records.count("–") == 1  # two records do


def test_a_job_that_depends_on_the_order_is_right_when_the_order_is_kept():
    assert simulate(numbered(), seeds=10, keep_order=True).failures == []


def test_a_function_of_the_user_that_remembers_is_found_out():
    seen: set[int] = set()

    def only_new(row: dict) -> bool:
        known = row["value"] in seen
        seen.add(row["value"])
        return not known

    job = sf.Job("remembers")
    read(job).filter(only_new).key_by("key").aggregate(n=sf.count()).collect()
    with pytest.raises(AssertionError, match="missing"):
        simulate(job, seeds=3)


def test_a_function_that_fails_is_told_at_once():
    def fails(row: dict) -> bool:
        raise ValueError(row["key"])

    job = sf.Job("fails")
    read(job).filter(fails).collect()
    with pytest.raises(sf.RecordError, match="ValueError"):
        simulate(job, seeds=1)


def test_objects_and_several_outputs():
    job = sf.Job("objects")
    rows = job.read(sf.MemorySource([{"k": "ab"[n % 2], "n": n} for n in range(20)], schema=sf.OBJECTS))
    even = rows.filter(lambda row: row["n"] % 4 < 2)
    even.map(lambda row: row["n"], schema=sf.OBJECTS).collect()
    rows.map(lambda row: (row["k"], row["n"]), schema=sf.OBJECTS).collect()
    assert simulate(job, seeds=8).failures == []


def test_only_the_first_records_are_taken():
    job = sf.Job("long")
    read(job, events(500)).key_by("key").aggregate(n=sf.count()).collect()
    simulation = simulate(job, seeds=2, rows=20)
    assert simulation.rows == {"read-1": 20}
    assert "the first 20 records" in simulation.text()


def test_a_source_without_end_is_cut():
    job = sf.Job("endless")
    job.read(sf.DataGen(rate=100_000)).key_by("key").aggregate(n=sf.count()).collect()
    assert simulate(job, seeds=3, rows=20).rows == {"read-1": 20}


def test_a_source_without_records_is_refused():
    job = sf.Job("empty")
    job.read(sf.MemorySource([], schema={"k": sf.String})).collect()
    with pytest.raises(JobDefinitionError, match="no records"):
        simulate(job, seeds=1)
