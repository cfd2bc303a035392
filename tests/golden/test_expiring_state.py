"""A job goes on from a checkpoint whose state has a time to live and was written by a version that left places in the
expiry queue: `expiring_state` is never written again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.operators.connectors.collect import Collected

FOLDER = Path(__file__).parent / "expiring_state"
KEYS = "abcdefgh"
SCHEMA = {"k": sf.String, "does": sf.String, "n": sf.Int64, "at": sf.Int64}
# Everything by the second, in the life of ten seconds that all states have.
SCRIPT = [(0, "set"), (2, "clear"), (3, "set"), (8, "set"), (9, "watch")]
THEN = [
    (10, "watch"), (14, "watch"), (15, "set"), (17, "watch"), (20, "clear"), (21, "set"), (30, "watch"), (31, "watch"),
]  # fmt: skip
HALF, ALL = len(KEYS) * len(SCRIPT), len(KEYS) * len(SCRIPT + THEN)


class Lately(sf.KeyedProcess):
    value = sf.ValueState(int, ttl="10s")
    read = sf.ValueState(int, ttl="10s", ttl_refresh="read")
    top = sf.ReducingState(int, max, ttl="10s")
    log = sf.ListState(int, ttl="10s")
    names = sf.MapState(str, int, ttl="10s")

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        n, does = event["n"], event["does"]
        match does:
            case "clear":
                for state in (self.value, self.read, self.top, self.log):
                    state.clear()
                self.names.remove("even")
            case "set" if event["k"] != "h" or n < 4 * len(KEYS):  # h is set no more later on
                self.value.update(n)
                self.read.update(n)
                self.top.add(n)
                self.log.add(n)
                self.names.put("odd" if event["at"] % 2 else "even", n)
            case _:
                names = ",".join(f"{key}={value}" for key, value in sorted(self.names.items()))
                known = (self.value.value(), self.read.value(), self.top.get(), len(self.log.get()), names)
                ctx.emit({"k": ctx.key, "at": event["at"], "known": str(known)})


def job(count: int, *, ends: bool) -> tuple[sf.Job, Collected]:
    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(start, count):
            second, does = [*SCRIPT, *THEN][n // len(KEYS)]
            yield {"k": KEYS[n % len(KEYS)], "does": does, "n": n, "at": second}
        if not ends:
            await asyncio.Event().wait()

    made = sf.Job("lately")
    events = made.read(
        sf.source(rows, schema=SCHEMA, bounded=ends), event_time=sf.epoch("at", unit="s")
    ).named("events")
    return made, events.key_by("k").process(Lately).named("lately").collect()


async def written(folder: Path) -> None:
    """Runs the first half and stops with a checkpoint; an earlier version has done that for `expiring_state`."""
    handle = await job(HALF, ends=False)[0].start(
        checkpoint_dir=str(folder), checkpoint_interval="1h", mode="streaming", state_backend="memory"
    )
    while handle.status().records_read < HALF:  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.005)
    await handle.stop()


def known(out: Collected) -> list[tuple[str, int, str]]:
    return sorted((row["k"], row["at"], row["known"]) for row in out.rows())


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_state_that_expires_goes_on_from_an_older_version(
    parallelism: int, backend: Any, tmp_path: Path
) -> None:
    shutil.copytree(FOLDER, tmp_path / "checkpoints")
    whole, at_once = job(ALL, ends=True)
    whole.run(mode="batch")
    second, after = job(ALL, ends=True)
    second.run(
        checkpoint_dir=str(tmp_path / "checkpoints"),
        mode="streaming",
        parallelism=parallelism,
        state_backend=backend,
    )
    expected = [row for row in known(at_once) if row[1] > 9]
    assert known(after) == expected
    assert ("h", 17, "(31, 31, 31, 2, 'even=31')") in expected, "lives on what was read before"
    assert ("h", 21, "(None, None, None, 0, '')") in expected
