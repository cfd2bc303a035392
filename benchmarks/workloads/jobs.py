"""streamflow's programs for the workloads, as a user would write them."""

import os
from functools import partial
from pathlib import Path

import streamflow as sf
from benchmarks.workloads.functions import is_wanted, to_reading
from streamflow import FileSource, KafkaSource, col  # imports are not counted: all of them happen here

EVENT = {"ts": sf.Int64, "key": sf.String, "value": sf.Float64, "kind": sf.String}


def read_events(job: sf.Job, path: Path) -> sf.Stream:
    """The events, from ndjson or Parquet by suffix, with event time and a disorder of 5 s."""
    source = FileSource(str(path), schema=EVENT)
    return job.read(source, event_time=sf.epoch("ts", unit="ms"), watermark=sf.bounded_disorder("5s"))


def tumbling(job: sf.Job, path: Path) -> sf.Stream:
    """W1 and W1p."""
    windows = read_events(job, path).key_by("key").window(sf.tumbling("10s"))
    return windows.aggregate(n=sf.count(), total=sf.sum("value"))


def tumbling_from_kafka(job: sf.Job, path: Path, *, client: str) -> sf.Stream:
    """K1: W1 over the topic that has been filled from the file."""
    source = KafkaSource(
        os.environ["STREAMFLOW_BENCH_TOPIC"],
        os.environ["STREAMFLOW_BENCH_BOOTSTRAP"],
        schema=EVENT,
        end="latest",
        client=client,
    )
    events = job.read(source, event_time=sf.epoch("ts", unit="ms"), watermark=sf.bounded_disorder("5s"))
    windows = events.key_by("key").window(sf.tumbling("10s"))
    return windows.aggregate(n=sf.count(), total=sf.sum("value"))


def python_functions(job: sf.Job, path: Path) -> sf.Stream:
    """W1py: key and summed value are Python functions."""
    windows = read_events(job, path).key_by(lambda row: row["key"]).window(sf.tumbling("10s"))
    return windows.aggregate(n=sf.count(), total=sf.sum(lambda row: row["value"]))


def python_everywhere(job: sf.Job, path: Path) -> sf.Stream:
    """W1fn: a filter and a map in front of that."""
    readings = read_events(job, path).filter(is_wanted).map(to_reading)
    windows = readings.key_by(lambda row: row["key"]).window(sf.tumbling("10s"))
    return windows.aggregate(n=sf.count(), total=sf.sum(lambda row: row["value"]))


def sliding(job: sf.Job, path: Path) -> sf.Stream:
    """W2."""
    windows = read_events(job, path).key_by("key").window(sf.sliding("60s", every="10s"))
    return windows.aggregate(n=sf.count(), total=sf.sum("value"))


def sessions(job: sf.Job, path: Path) -> sf.Stream:
    """W3."""
    windows = read_events(job, path).key_by("key").window(sf.session(gap="5s"))
    return windows.aggregate(n=sf.count(), total=sf.sum("value"))


def word_count(job: sf.Job, path: Path) -> sf.Stream:
    """W4: a total per word."""
    lines = job.read(FileSource(str(path), format="text"))
    words = lines.select(key=col("line").str.split(" ")).explode("key")
    return words.key_by("key").aggregate(n=sf.count())


JOBS = {
    "W1": tumbling,
    "W1p": tumbling,
    "W1py": python_functions,
    "W1fn": python_everywhere,
    "W2": sliding,
    "W3": sessions,
    "W4": word_count,
    "K1": partial(tumbling_from_kafka, client="aiokafka"),
    "K1c": partial(tumbling_from_kafka, client="confluent"),
}
