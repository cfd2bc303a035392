"""Joins give what Kafka Streams gives for the same records (`joins.yaml`).

Pairs of streams and rows of tables are compared right after each record. A null side of a stream, and a row as of its
time, are decided by the watermark here, and compared at the end: Kafka Streams gives them as soon as it can tell, or
changes them later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import streamflow as sf
from streamflow.api.tables import Table
from streamflow.testing import TestJob

GIVEN = yaml.safe_load(Path(__file__).with_name("joins.yaml").read_text())
RECORD = re.compile(r"([lr])(\*?)([A-Za-z]?)@(\d+)")
SCHEMA = {"key": sf.Int64, "value": sf.String, "ts": sf.Int64}
WITHIN = ("-10s", "10s")


async def endless() -> AsyncIterator[dict[str, Any]]:
    """Stands for a topic: a test job puts its own records in its place."""
    yield {"key": 0, "value": None, "ts": 0}


def joined(case: dict[str, Any]) -> sf.Job:
    """The job of a case."""
    job = sf.Job("joins")
    streams = {
        side: job.read(sf.source(endless, schema=SCHEMA), event_time=sf.epoch("ts", unit="ms")).named(side)
        for side in ("left", "right")
    }
    left = streams["left"].select("key", "value")
    rights = [streams["right"].select("key", **{f"right{n}": "value"}) for n in range(len(case["how"]))]
    versioned = case.get("versioned", [])
    if case["name"] == "streams_self_join":
        rights = [streams["left"].select("key", right0="value")]
    others: list[sf.Stream] | list[Table]
    match case["kind"]:
        case "streams":
            result = left.filter(sf.col("value").is_not_null())
            others = [right.filter(sf.col(f"right{n}").is_not_null()) for n, right in enumerate(rights)]
        case "table":
            result = left.filter(sf.col("value").is_not_null())
            others = [
                rights[0].to_table("key", deleted=sf.col("right0").is_null(), versioned=bool(versioned))
            ]
        case _:
            tables = [left.to_table("key", deleted=sf.col("value").is_null(), versioned="left" in versioned)]
            tables += [
                right.to_table("key", deleted=sf.col(f"right{n}").is_null(), versioned="right" in versioned)
                for n, right in enumerate(rights)
            ]
            result, *others = [table.changes() for table in tables]
    for other, how in zip(others, case["how"], strict=True):
        within = WITHIN if case["kind"] == "streams" else None
        result = result.join(other, on="key", how=how, within=within)
    result.collect()
    return job


def shown(row: dict[str, Any]) -> str:
    """The values of a row as Kafka's tests write them."""
    text = row["value"]
    for name in row:
        if name.startswith("right") and (text is not None or row[name] is not None):
            text = f"{text or 'null'}-{row[name] or 'null'}"
    return str(text)


@pytest.mark.parametrize("case", GIVEN["cases"], ids=lambda case: case["name"])
def test_a_join_gives_what_kafka_streams_gives(case: dict[str, Any]) -> None:
    parallelism = 1 + len(case["name"]) % 2
    at_once = case["kind"] == "tables" or (case["kind"] == "table" and "versioned" not in case)
    given_there = {**case["results"], **case.get("ours", {})}
    results = {int(step): texts.split() for step, texts in given_there.items()}
    standing: Counter[str] = Counter()
    expected: str | None = None
    given: list[str] = []
    with TestJob(joined(case), parallelism=parallelism) as test:
        for step, record in enumerate(RECORD.findall(GIVEN["inputs"][case["input"]])):
            side, keyless, value, time = record
            row = {"key": None if keyless else 0, "value": value or None, "ts": int(time)}
            before = len(test.output().rows())
            test.source("left" if side == "l" else "right").push([row])
            new, times = test.output().rows()[before:], test.output().event_times()[before:]
            texts = [f"{shown(row)}@{time // 1000}" for row, time in zip(new, times, strict=True)]
            if case["kind"] == "tables":
                for each in new:
                    standing[shown(each)] += 1 if each["change"] in ("insert", "update_after") else -1
                if step in results:
                    expected, at = results[step][-1].split("@")
                    assert texts[-1].split("@")[1] == at
                assert [*standing.elements()] == ([] if expected in (None, "-") else [expected])
            elif (at_once or case["how"] == ["inner"]) and "versioned" not in case:
                assert Counter(texts) == Counter(results.get(step, []))
            given += texts
        before = len(test.output().rows())
        test.finish()
        new, times = test.output().rows()[before:], test.output().event_times()[before:]
        given += [f"{shown(row)}@{time // 1000}" for row, time in zip(new, times, strict=True)]
    if case["kind"] != "tables":
        assert Counter(given) == Counter(text for texts in results.values() for text in texts)
