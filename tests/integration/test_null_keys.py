"""Null keys under every policy, as columns and from functions, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf

KEYS = ["a", None, "b", "a", None]
ROWS = [{"k": key, "v": number} for number, key in enumerate(KEYS)]
SCHEMA = {"k": sf.String, "v": sf.Int64}


class Each(sf.KeyedProcess):
    output = SCHEMA

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(event)


KEYED: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "a process by a column": lambda s: s.key_by("k").process(Each),
    "a process by a function": lambda s: s.key_by(lambda row: row["k"]).process(Each),
    "an aggregate by a function": lambda s: s.key_by(lambda row: row["k"]).aggregate(n=sf.count()),
    "an aggregate by a column and a function": lambda s: s.key_by("v", lambda row: row["k"]).aggregate(
        n=sf.count()
    ),
}


@pytest.mark.parametrize("layout", ["columns", "objects"])
@pytest.mark.parametrize("keyed", KEYED)
@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_a_null_key_is_a_bad_record_by_policy(mode: Any, keyed: str, layout: str, tmp_path: Path) -> None:
    def read(job: sf.Job) -> sf.Stream:
        schema: Any = SCHEMA if layout == "columns" or "column" in keyed else sf.OBJECTS
        return KEYED[keyed](job.read(sf.MemorySource(ROWS, schema=schema)))

    def run(policy: Any) -> tuple[list[dict[str, Any]], sf.JobResult]:
        job = sf.Job("nulls")
        found = read(job).on_error(policy).collect()
        result = job.run(mode=mode, batch_rows=2)
        return found.rows(), result

    with pytest.raises(sf.RecordError, match=r"the key '.*' is null(?s:.*)null_keys") as caught:
        run("fail")
    assert "None" in str(caught.value)

    found, result = run("skip")
    assert result.errors == 2
    assert found
    assert all(None not in row.values() for row in found)

    dead = tmp_path / "dead.ndjson"
    _, result = run(sf.FileSink(dead))
    assert result.errors == 2
    assert dead.read_text().count("is null") == 2
