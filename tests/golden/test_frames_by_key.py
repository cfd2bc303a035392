"""Windows, sessions, totals and waiting records go on from a checkpoint of the version before the keyed frame store:
`frames_by_key` is never written again."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.operators.connectors.collect import Collected

FOLDER = Path(__file__).parent / "frames_by_key"
SCHEMA = {"k": sf.String, "n": sf.Int64, "at": sf.Int64}
HALF, ALL = 400, 800


class Seen(sf.KeyedProcess):
    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit({"k": ctx.key, "n": event["n"], "at": event["at"]})


def job(count: int, *, ends: bool) -> tuple[sf.Job, dict[str, Collected]]:
    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        draw = random.Random(5)
        for n in range(count):
            # A key is quiet now and then; a tenth of the records is late, none too late.
            late = draw.choice([0] * 9 + [draw.randrange(60)])
            row = {"k": f"k{draw.randrange(12) if n % 100 < 60 else 0}", "n": n, "at": max(n // 4 - late, 0)}
            if n >= start:
                yield row
        if not ends:
            await asyncio.Event().wait()

    made = sf.Job("frames")
    source = sf.source(rows, schema=SCHEMA, bounded=ends)
    events = made.read(
        source, event_time=sf.epoch("at", unit="s"), watermark=sf.bounded_disorder("2s")
    ).named("events")
    keyed = events.key_by("k")
    late = {"allowed_lateness": "5m", "accumulation": "retracting"}
    aggregates: dict[str, Any] = {"count": sf.count(), "total": sf.sum("n"), "last": sf.last("n")}
    outs = {
        "windows": keyed.window(sf.sliding("10s", every="5s"), **late).aggregate(**aggregates),
        "sessions": keyed.window(sf.session(gap="6s"), **late).aggregate(**aggregates),
        "totals": keyed.aggregate(**aggregates),
        "in order": keyed.process(Seen, order="event_time"),
    }
    return made, {name: stream.named(name.replace(" ", "-")).collect() for name, stream in outs.items()}


async def written(folder: Path) -> None:
    """Runs the first half and stops with a checkpoint; an earlier version has done that for `frames_by_key`."""
    handle = await job(HALF, ends=False)[0].start(
        checkpoint_dir=str(folder),
        checkpoint_interval="1h",
        mode="streaming",
        state_backend="memory",
        batch_rows=10,
    )
    while handle.status().records_read < HALF:  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.005)
    await handle.checkpoint()
    await handle.stop()


def last(rows: list[dict[str, Any]], *by: str) -> dict[Any, Any]:
    """The rows left after all changes, by these columns."""
    left: dict[Any, Any] = {}
    for row in rows:
        key = tuple(row[name] for name in by)
        if row["change"] in ("insert", "update_after"):
            left[key] = (row["count"], row["total"])
        elif row["change"] == "delete":
            left.pop(key, None)
    return left


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_they_go_on_from_an_older_version(parallelism: int, backend: Any, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "old")
    whole, at_once = job(ALL, ends=True)
    whole.run(mode="batch")
    made, after = job(ALL, ends=True)
    made.run(
        checkpoint_dir=str(tmp_path / "old"), mode="streaming", parallelism=parallelism, state_backend=backend
    )
    window = ("k", "window_start", "window_end")
    for name, by in {"windows": window, "sessions": window, "totals": ("k",)}.items():
        expected, got = last(at_once[name].rows(), *by), last(after[name].rows(), *by)
        # Those that nothing came for since are not put out again.
        assert got.items() <= expected.items(), name
        assert len(got) > len(expected) / 3, name
    replaced = [row["change"] for row in after["sessions"].rows()]
    assert replaced.count("delete") >= 1, "sessions that had been put out before, and have grown"
    assert [row["change"] for row in after["windows"].rows()].count("update_before") >= 1
    ordered = after["in order"].rows()
    assert len({row["n"] for row in ordered if row["n"] >= HALF}) > HALF * 0.8, "but for late ones"
    assert any(row["n"] < HALF for row in ordered), "records that had waited"
    for key in {row["k"] for row in ordered}:
        times = [row["at"] for row in ordered if row["k"] == key]
        assert times == sorted(times)
