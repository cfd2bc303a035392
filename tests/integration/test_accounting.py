"""The law of accounting: what was read is what was written, late, dropped, in no window, bad or filtered; exactly, and
over restarts and restores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow import col
from streamflow.observe.status import JobResult, OperatorStatus
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.connectors.generator import GeneratorSource
from streamflow.runtime.ports import Inline, Ports

ROWS = 3_000


class Faulty:
    """`ROWS` rows; fails at some of them, each time once, when there is a checkpoint to go on from."""

    def __init__(self, *fails_at: int) -> None:
        self.fails_at = list(fails_at)

    def source(self, until: int = ROWS, *, ends: bool = True) -> GeneratorSource:
        async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
            for n in range(start, until):
                if n in self.fails_at:
                    self.fails_at.remove(n)
                    await asyncio.sleep(0.05)  # so that some of it lies behind a checkpoint
                    raise OSError("away")
                if n % 100 == 0:
                    await asyncio.sleep(0.002)
                yield row(n)
            if not ends:
                await asyncio.Event().wait()

        schema = {"k": sf.String, "n": sf.Int64, "t": sf.Int64}
        return sf.source(rows, schema=schema, bounded=ends)


def row(n: int) -> dict[str, Any]:
    late = n % 50 == 49
    return {"k": "abcdefg"[n % 7], "n": n, "t": (n - (1_000 if late else 0)) * 1_000_000}


def expression_fails(n: int) -> bool:
    return n % 13 == 0


def checked(event: dict[str, Any]) -> dict[str, Any]:
    if expression_fails(event["n"]):
        raise ValueError("thirteen")
    return event


class Alternating(sf.KeyedProcess):
    outputs: ClassVar = {"odd": {"n": sf.Int64}}
    output: ClassVar = {"n": sf.Int64}

    def on_event(self, event: Any, ctx: Any) -> None:
        if event["n"] % 2:
            ctx.emit_to("odd", {"n": event["n"]})
        else:
            ctx.emit({"n": event["n"]})


def a_job(source: GeneratorSource) -> tuple[sf.Job, Collected]:
    """Branches: windows with late records and gaps; a function that fails, and a filter; a process that divides what it
    puts out; a split."""
    job = sf.Job("account")
    stream = job.read(source, event_time=sf.epoch("t", unit="us")).named("in")
    gaps = stream.key_by("k").window(sf.sliding("10s", every="20s")).aggregate(n=sf.count()).named("gaps")
    panes = gaps.collect()
    schema = {"k": sf.String, "n": sf.Int64, "t": sf.Int64}
    good = stream.map(checked, schema=schema).on_error("skip").named("check")
    good.filter(col("n") % 3 == 0).named("third").collect()
    divided = stream.key_by("k").process(Alternating()).named("divide")
    divided.collect()
    divided.output("odd").collect()
    parts = stream.split(small=col("n") < 10, large=col("n") >= 1_000)
    for part in parts.values():
        part.collect()
    return job, panes


def holds(result: JobResult, first: int, until: int) -> None:
    """The law, for a run that has read rows `first` to `until`."""
    read = range(first, until)
    by_id = {each.operator: each for each in result.operators}
    bad = sum(map(expression_fails, read))
    assert by_id["in"].records_in == by_id["in"].records_out == len(read)
    assert by_id["check"].records_in == len(read)
    assert by_id["check"].errors == bad == result.errors
    assert by_id["check"].records_out == len(read) - bad
    assert by_id["third"].records_in == len(read) - bad
    assert by_id["third"].records_out == sum(n % 3 == 0 and not expression_fails(n) for n in read)
    assert by_id["divide"].records_in == by_id["divide"].records_out == len(read)
    assert by_id["split-1"].records_in == by_id["split-1"].records_out == len(read)
    written = sum(each.records_in for each in result.operators if each.kind == "write")
    assert written == by_id["third"].records_out + 2 * len(read) + by_id["gaps"].records_out


def in_panes(panes: Collected) -> int:
    return sum(row["n"] for row in panes.rows())


@pytest.mark.parametrize(("parallelism", "backend"), [(1, "memory"), (3, "rocksdb")])
def test_over_restarts_within_the_process(parallelism: int, backend: str, tmp_path: Path) -> None:
    faulty = Faulty(700, 1_500, 2_900)
    settings: dict[str, Any] = {"checkpoint_interval": "20ms", "restart_delay": "1ms", "mode": "streaming"}
    job, panes = a_job(faulty.source())
    result = job.run(
        checkpoint_dir=str(tmp_path),
        parallelism=parallelism,
        state_backend=backend,
        batch_rows=64,
        **settings,
    )
    assert result.restarts == 3
    holds(result, 0, ROWS)
    assert result.dropped > 10 < result.in_no_window
    assert in_panes(panes) + result.dropped + result.in_no_window + result.late == ROWS


def test_over_stops_and_restores(tmp_path: Path) -> None:
    results: list[JobResult] = []
    panes: list[Collected] = []

    async def part(until: int, parallelism: int, *, ends: bool) -> JobResult:
        first = sum(each.records_in["in"] for each in results)
        job, out = a_job(Faulty(first + 100).source(until, ends=ends))
        panes.append(out)
        handle = await job.start(
            checkpoint_dir=str(tmp_path),
            checkpoint_interval="20ms",
            restart_delay="1ms",
            mode="streaming",
            parallelism=parallelism,
        )
        if ends:
            return await handle.wait()
        while handle.status().records_read < until - first:  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.005)
        # On a machine that is busy enough a stop leaves out what is not processed within seconds: the next run's part.
        await handle.checkpoint()
        return await handle.stop()

    for until, parallelism, ends in ((900, 1, False), (2_000, 3, False), (ROWS, 2, True)):
        first = sum(each.records_in["in"] for each in results)
        results.append(asyncio.run(part(until, parallelism, ends=ends)))
        holds(results[-1], first, until)
    assert sum(map(in_panes, panes)) + sum(each.dropped + each.in_no_window for each in results) == ROWS


def counted(operator: OperatorStatus) -> OperatorStatus:
    """Without the shares of the time since somebody last looked."""
    return replace(operator, busy=0.0, backpressured=0.0)


def test_metrics_and_status_say_the_same_and_counters_never_go_down(tmp_path: Path) -> None:
    from streamflow.observe.prometheus import RegistryCollector

    async def whole() -> JobResult:
        job, _ = a_job(Faulty(700, 1_500).source())
        handle = await job.start(
            checkpoint_dir=str(tmp_path), checkpoint_interval="20ms", restart_delay="1ms", mode="streaming"
        )
        waiting, scraped = asyncio.ensure_future(handle.wait()), [0.0]

        def scrape() -> float:
            families = {each.name: each for each in RegistryCollector(handle.registry).collect()}
            if "streamflow_records_in" not in families:
                return 0.0
            samples = families["streamflow_records_in"].samples
            return sum(each.value for each in samples if each.labels["operator"] == "in")

        while not waiting.done():
            await asyncio.sleep(0.005)
            scraped.append(scrape())
        assert scraped == sorted(scraped)
        assert scrape() == ROWS
        status = handle.status().operators
        result = await waiting
        assert list(map(counted, status)) == list(map(counted, result.operators))
        return result

    result = asyncio.run(whole())
    assert result.restarts == 2
    holds(result, 0, ROWS)


def test_bad_input_is_read_and_bad(tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_text("".join('{"n": 1}\n' if n % 10 else "no json\n" for n in range(100)))
    job = sf.Job("bad")
    job.read(sf.FileSource(str(tmp_path / "in.ndjson"), schema={"n": sf.Int64})).on_error("skip").named(
        "in"
    ).collect()
    result = job.run()
    assert (result.records_in["in"], result.records_out["in"], result.errors) == (100, 90, 10)


class Abandoning(Inline):
    """A thread that is busy until its run has failed, and ends once the next has begun."""

    def __init__(self) -> None:
        self.busy = asyncio.Event()
        self._left: Callable[[], object] | None = None

    async def droppable(self, function: Callable[..., Any], *args: Any) -> Any:
        if not self.busy.is_set():
            self._left = partial(function, *args)
            self.busy.set()
            await asyncio.Event().wait()
        if self._left is not None:
            left, self._left = self._left, None
            left()
        return function(*args)


def test_what_a_failed_run_was_busy_with_counts_nowhere(tmp_path: Path) -> None:
    async def whole() -> JobResult:
        threads = Abandoning()
        failed: list[bool] = []

        async def fails_once(start: int) -> AsyncIterator[dict[str, Any]]:
            await threads.busy.wait()
            if not failed:
                failed.append(True)
                raise OSError("away")
            yield {"n": 1}

        job = sf.Job("abandoned")
        rows = job.read(sf.MemorySource([row(n) for n in range(100)])).named("in")
        rows.map(checked).on_error("skip").named("check").collect()
        job.read(sf.source(fails_once, schema={"n": sf.Int64}, bounded=True)).collect()
        ports = Ports(cpu=threads)
        settings = {"checkpoint_dir": str(tmp_path), "restart": "fixed", "restart_delay": "1ms"}
        try:
            handle = await job.start(mode="streaming", ports=ports, **settings)
            return await handle.wait()
        finally:
            ports.close()

    result = asyncio.run(whole())
    assert result.restarts == 1
    (check,) = (each for each in result.operators if each.operator == "check")
    bad = sum(map(expression_fails, range(100)))
    assert (check.records_in, check.errors, check.records_out) == (100, bad, 100 - bad)
