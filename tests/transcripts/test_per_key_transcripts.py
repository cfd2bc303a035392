"""Operators on whole records as transcripts: events, watermarks, and exactly the records or changes that come.

Times are seconds; a record is [time, key, value], a change [kind, key, value]. Records have to come in the order of a
transcript only where they are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob
from tests.transcripts.playing import SECOND, check, events_of, play

FOLDER = Path(__file__).parent / "per_key"
FILES = sorted(FOLDER.rglob("*.yaml"))


def made_of(events: sf.Stream, job: Mapping[str, Any]) -> sf.Stream:
    """The stream behind the operator that a transcript is about."""
    if "deduplicate" in job:
        return events.deduplicate("key", **job["deduplicate"])
    return events.sort("event_time") if "sort" in job else events.key_by("key").top_k(job["top_k"], "value")


def run(transcript: Mapping[str, Any], parallelism: int) -> None:
    """Runs a transcript; raises AssertionError where its output differs."""
    given = transcript["job"]
    job = sf.Job("transcript")
    made = made_of(events_of(job), given)
    changing = bool(made.type.changes)
    ends = {"changes" if changing else "out": made.collect()}
    if not changing:
        ends["late"] = made.late.collect()  # type: ignore[attr-defined]
    with TestJob(job, parallelism=parallelism) as t:
        for number, step in enumerate(transcript["steps"]):
            play(step, t.source())
            for name, end in ends.items():
                came = [shown(name, row) for row in t.output(end).new_rows()]
                wanted = step.get(name, [])
                ordered = "sort" in given and name == "out"
                assert came == wanted if ordered else sorted(came) == sorted(wanted), f"step {number}, {name}"


def shown(name: str, row: Mapping[str, Any]) -> list[Any]:
    """A row as a transcript has it."""
    first = row["change"] if name == "changes" else row["time"] // SECOND
    return [first, row["key"], row["value"]]


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER).with_suffix("")) for path in FILES])
def test_transcript(path: Path, parallelism: int) -> None:
    check(path, parallelism, run)


def test_all_of_them_are_found() -> None:
    assert len(FILES) > 10
