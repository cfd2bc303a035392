"""Patterns as transcripts: events, watermarks, and exactly the matches that come with each.

A step of a pattern is `step` or the method's name, with its condition as SQL over `value`; `step.low` is the value that
the step `low` took last. A list of steps in place of a name is a group. Times are seconds; `within` and `gap` of a
step are durations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.testing import TestJob
from streamflow.time.timestamps import to_micros
from tests.transcripts.playing import SECOND, check, events_of, play

FOLDER = Path(__file__).parent / "patterns"
FILES = sorted(FOLDER.rglob("*.yaml"))
METHODS = ("next", "then", "then_any", "not_next", "not_then")


def condition(text: str, names: Sequence[str]) -> pl.Expr:
    """The condition; a name behind `step.` is that of a step."""
    for name in names:
        text = text.replace(f"step.{name}", f'"{sf.step(name)["value"].meta.output_name()}"')
    return pl.sql_expr(text)


def pattern_of(steps: Sequence[Mapping[str, Any]], names: list[str]) -> sf.Pattern:
    """The pattern of a transcript, or a group; `names` are those of the steps before, and get the new ones."""
    made: sf.Pattern | None = None
    for step in steps:
        method = next((method for method in METHODS if method in step), "step")
        what = [step[method]]
        if isinstance(step[method], list):
            what = [pattern_of(step[method], names)]
        else:
            names.append(step[method])
            what.append(condition(step["when"], names))
        if made is None:
            made = sf.pattern(*what)
        else:
            made = getattr(made, method)(*what, within=step.get("within"))
        if "at_least" in step:
            made = made.at_least(step["at_least"], gap=step.get("gap"))
        if "times" in step:
            made = made.times(*step["times"], gap=step.get("gap"))
        if "until" in step:
            made = made.until(condition(step["until"], names))
        for how in ("optional", "consecutive", "combinations", "greedy"):
            made = getattr(made, how)() if step.get(how) else made
    assert made is not None
    return made


def run(transcript: Mapping[str, Any], parallelism: int) -> None:
    """Runs a transcript; raises AssertionError where its output differs."""
    given = transcript["job"]
    sought = pattern_of(given["pattern"], [])
    sought = sought.within(given["within"]) if "within" in given else sought
    job = sf.Job("transcript")
    matches = events_of(job).key_by("key").match(sought, after_match=given.get("after_match", "no_skip"))
    ends = {"matches": matches.collect(), "late": matches.late.collect()}
    if "within" in given or any("within" in step or "gap" in step for step in given["pattern"]):
        ends["timed_out"] = matches.timed_out.collect()
    with TestJob(job, parallelism=parallelism) as t:
        for number, step in enumerate(transcript["steps"]):
            play(step, t.source())
            for name, end in ends.items():
                came = Counter(repr(shown(name, row)) for row in t.output(end).new_rows())
                wanted = Counter(repr(plain(row)) for row in step.get(name, ()))
                assert came == wanted, f"step {number}, {name}"


def plain(row: Any) -> Any:
    return dict(sorted(row.items())) if isinstance(row, dict) else row


def shown(name: str, row: Mapping[str, Any]) -> Any:
    """A row as a transcript has it: values for events, and no step that took none."""
    if name == "late":
        return [row["time"] // SECOND, row["key"], row["value"]]
    out: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, Mapping):
            out[column] = value["value"]
        elif isinstance(value, list) and value:
            out[column] = [event["value"] for event in value]
        elif column == "key":
            out[column] = value
        elif column == "timed_out_at":
            out["at"] = to_micros(value) // SECOND
    return plain(out)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER).with_suffix("")) for path in FILES])
def test_transcript(path: Path, parallelism: int) -> None:
    check(path, parallelism, run)


def test_all_of_them_are_found() -> None:
    assert len(FILES) > 10
