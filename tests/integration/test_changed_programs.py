"""Restores into changed programs: state that fits continues exactly, other state is refused by name.

Each case runs one program over the first half of its input, stops it with a last checkpoint, and lets another
program go on from there over the whole. The result has to be that of the second program reading everything itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow.api.stream import Stream
from streamflow.observe.status import JobResult
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.connectors.generator import GeneratorSource
from streamflow.operators.contract.source import Source

HALF, ALL = 31, 60
Build = Callable[[Stream], Stream]
SCHEMA = {"k": sf.String, "k2": sf.Int64, "id": sf.Int64, "t": sf.Int64}


def numbers(count: int, *, ends: bool) -> GeneratorSource:
    """`count` rows; then the end, or nothing more."""

    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(start, count):
            yield {"k": "ab"[n % 2], "k2": n % 3, "id": n, "t": n * 1_000_000}
        if not ends:
            await asyncio.Event().wait()

    return sf.source(rows, schema=SCHEMA, bounded=ends)


def read(job: sf.Job, count: int, *, ends: bool) -> Stream:
    return job.read(numbers(count, ends=ends), event_time=sf.epoch("t", unit="us"))


def program(build: Build, count: int, *, ends: bool) -> tuple[sf.Job, Collected]:
    job = sf.Job("changed")
    return job, build(read(job, count, ends=ends)).collect()


async def first_half(job: sf.Job, folder: Path, **settings: Any) -> JobResult:
    handle = await job.start(
        checkpoint_dir=str(folder), checkpoint_interval="1h", mode="streaming", **settings
    )
    while handle.status().records_read < HALF:  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.005)
    return await handle.stop()


def restored(first: Build, second: Build, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The output of the first program, and then of the second, restored from the first's checkpoint."""
    job, before = program(first, HALF, ends=False)
    asyncio.run(first_half(job, folder, parallelism=2))
    job, after = program(second, ALL, ends=True)
    job.run(checkpoint_dir=str(folder), **{"mode": "streaming", "parallelism": 3, **settings})
    return [*before.rows(), *after.rows()]


def at_once(build: Build) -> list[dict[str, Any]]:
    job, out = program(build, ALL, ends=True)
    job.run(mode="batch")
    return out.rows()


def totals(rows: list[dict[str, Any]], keys: list[str]) -> list[tuple[Any, ...]]:
    """The last result of each key, whatever came before it."""
    last = pl.DataFrame(rows).group_by(keys).agg(pl.exclude("change", *keys).max()).sort(keys)
    return last.select(sorted(last.columns)).rows()


N, M = sf.sum("id"), sf.max("t")
WINDOWS = {
    "running totals": None,
    "tumbling": sf.tumbling("1h"),
    "sliding": sf.sliding("20s", every="10s"),
    "session": sf.session(gap="10s"),
    "global": sf.global_window(),
}


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("window", WINDOWS)
def test_aggregates_and_keys_in_another_order(window: str, backend: str, tmp_path: Path) -> None:
    def build(keys: list[str], aggregates: dict[str, Any]) -> Build:
        def made(stream: Stream) -> Stream:
            keyed = stream.key_by(*keys)
            assigner = WINDOWS[window]
            return (
                (keyed if assigner is None else keyed.window(assigner)).aggregate(**aggregates).named("agg")
            )

        return made

    first, second = build(["k", "k2"], {"n": N, "m": M}), build(["k2", "k"], {"m": M, "n": N})
    rows = restored(first, second, tmp_path, state_backend=backend)
    expected = at_once(second)
    assert [*rows[-1]] == [*expected[-1]]
    bounds = [name for name in ("window_start", "window_end") if name in expected[0]]
    assert totals(rows, ["k", "k2", *bounds]) == totals(expected, ["k", "k2", *bounds])


def identity(row: dict[str, Any]) -> Any:
    return row["id"]


def seconds(row: dict[str, Any]) -> Any:
    return row["t"] // 1_000_000


INPUTS: dict[str, Any] = {
    "a": sf.sum(identity),
    "b": sf.max(seconds),
    "c": sf.top_k(identity, 2, by=seconds),
    "d": sf.sum("id"),
}


@pytest.mark.parametrize("objects", [False, True])
def test_aggregates_of_functions_in_another_order(objects: bool, tmp_path: Path) -> None:
    def build(names: str, **others: Any) -> Build:
        def made(stream: Stream) -> Stream:
            keyed = (stream.map(lambda row: row) if objects else stream).key_by("k")
            inputs = {name: INPUTS[name] for name in names} | others
            return keyed.window(sf.tumbling("20s")).aggregate(**inputs).named("agg")

        return made

    def found(rows: list[dict[str, Any]]) -> list[Any]:
        return sorted([row["k"], row["window_start"], *(row[name] for name in "abcd")] for row in rows)

    rows = restored(build("abcd"), build("dbca"), tmp_path)
    assert found(rows) == found(at_once(build("abcd")))
    job, _ = program(build("bc", a=INPUTS["d"], d=INPUTS["a"]), ALL, ends=True)
    with pytest.raises(sf.StateError, match=r"aggregate 'a' was (.|\n)*aggregate 'd' was"):
        job.run(checkpoint_dir=str(tmp_path))


class Count(sf.KeyedProcess):
    n = sf.ValueState(int, default=0)
    output: ClassVar = {"k": sf.String, "k2": sf.Int64, "n": sf.Int64, "timer": sf.Boolean}

    def on_event(self, event: Any, ctx: Any) -> None:
        self.n.update(self.n.value() + 1)
        ctx.set_timer(90_000_000)
        self.put(ctx, timer=False)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        self.put(ctx, timer=True)

    def put(self, ctx: Any, *, timer: bool) -> None:
        k, k2 = ctx.key if isinstance(ctx.key[0], str) else reversed(ctx.key)
        ctx.emit({"k": k, "k2": k2, "n": self.n.value(), "timer": timer})


class CountOtherwise(Count):
    def on_event(self, event: Any, ctx: Any) -> None:
        assert ctx.key == (event["k2"], event["k"])
        super().on_event(event, ctx)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        assert isinstance(ctx.key[0], int)
        super().on_timer(timer, ctx)


def test_a_process_keyed_in_another_order(tmp_path: Path) -> None:
    rows = restored(
        lambda stream: stream.key_by("k", "k2").process(Count).named("count"),
        lambda stream: stream.key_by("k2", "k").process(CountOtherwise).named("count"),
        tmp_path,
    )
    expected = at_once(lambda stream: stream.key_by("k2", "k").process(CountOtherwise))
    keys = ["k", "k2", "timer"]
    assert totals(rows, keys) == totals(expected, keys)


@pytest.mark.parametrize(
    ("aggregates", "why"),
    [
        ({"n": N}, "aggregate 'm' has state there and is not in the program any more"),
        ({"n": N, "m": M, "c": sf.count()}, "aggregate 'c' has no state there"),
        ({"n": N, "worst": M}, "aggregate 'worst' has no state there"),
        ({"n": M, "m": N}, "aggregate 'n' was sum(id) as Int64 and is max(t) as Int64"),
    ],
)
def test_other_aggregates_are_refused_by_name(aggregates: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(sf.StateError) as refused:
        restored(
            lambda stream: stream.key_by("k").aggregate(n=N, m=M).named("agg"),
            lambda stream: stream.key_by("k").aggregate(**aggregates).named("agg"),
            tmp_path,
        )
    assert why in refused.value.message


@pytest.mark.parametrize("keys", [["k"], ["k", "k2", "id"], ["k", "id"]])
def test_other_keys_are_refused_by_name(keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(sf.StateError, match=r"operator agg: key '(k2|id)'"):
        restored(
            lambda stream: stream.key_by("k", "k2").window(sf.tumbling("1h")).aggregate(n=N).named("agg"),
            lambda stream: stream.key_by(*keys).window(sf.tumbling("1h")).aggregate(n=N).named("agg"),
            tmp_path,
        )


def words(name: str) -> Source:
    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(start, 3):
            yield {"word": f"{name}{n}"}
        await asyncio.Event().wait()

    rows.__name__ = name
    return sf.source(rows, schema={"word": sf.String})


def files(folder: Path, name: str, **options: Any) -> Source:
    (folder / f"{name}.ndjson").write_text("".join(f'{{"word": "{name}{n}"}}\n' for n in range(3)))
    return sf.FileSource(str(folder / f"{name}.ndjson"), schema={"word": sf.String}, **options)


def reading(*sources: Source, names: tuple[str, ...] = ()) -> sf.Job:
    job = sf.Job("sources")
    for at, source in enumerate(sources):
        stream = job.read(source)
        (stream.named(names[at]) if names else stream).collect()
    return job


async def read_and_stopped(job: sf.Job, count: int, folder: Path) -> JobResult:
    handle = await job.start(
        checkpoint_dir=str(folder), checkpoint_interval="1h", mode="streaming", batch_rows=1
    )
    while handle.status().records_read < count:
        if handle.status().state == "failed":
            return await handle.wait()
        await asyncio.sleep(0.005)
    return await handle.stop()


CHANGED_SOURCES: dict[str, tuple[list[str], list[str], str]] = {
    "swapped": (["gen a", "gen b"], ["gen b", "gen a"], r"read-1: its function was 'a' and is 'b' \(read-2"),
    "put before": (["gen a"], ["gen b", "gen a"], r"read-1: its function was 'a' and is 'b' \(read-2"),
    "removed": (["gen a", "gen b"], ["gen b"], "read-1: its function was 'a' and is 'b'"),
    "another kind": (["gen a"], ["watch b"], "read-1: was a GeneratorSource and is a FileSource"),
    "files swapped": (
        ["watch a", "watch b"],
        ["watch b", "watch a"],
        r"read-1: it read .*a\.ndjson and reads .*b",
    ),
    "path changed": (["watch a"], ["watch b"], r"read-1: it read .*a\.ndjson and reads .*b\.ndjson"),
    "not watched any more": (["watch a"], ["files a"], "with watch= and reads without it"),
    "memory, other rows": (["memory a", "gen a"], ["memory b", "gen a"], "read-1: its first row was"),
}


@pytest.mark.parametrize("case", CHANGED_SOURCES)
def test_a_source_in_anothers_place_is_refused(case: str, tmp_path: Path) -> None:
    def made(spec: str) -> Source:
        kind, name = spec.split()
        match kind:
            case "gen":
                return words(name)
            case "watch":
                return files(tmp_path, name, watch="10ms")
            case "files":
                return files(tmp_path, name)
            case _:
                return sf.MemorySource([{"word": f"{name}{n}"} for n in range(3)])

    before, after, why = CHANGED_SOURCES[case]
    checkpoints = tmp_path / "checkpoints"
    asyncio.run(read_and_stopped(reading(*map(made, before)), 3 * len(before), checkpoints))
    with pytest.raises(sf.StateError, match=why) as refused:
        asyncio.run(read_and_stopped(reading(*map(made, after)), 99, checkpoints))
    assert ".named(" in str(refused.value)
    # The same program goes on.
    asyncio.run(read_and_stopped(reading(*map(made, before)), 0, checkpoints))


def test_named_sources_may_change_places(tmp_path: Path) -> None:
    a, b = words("a"), words("b")
    asyncio.run(read_and_stopped(reading(a, b, names=("one", "two")), 6, tmp_path))
    result = asyncio.run(read_and_stopped(reading(b, a, names=("two", "one")), 0, tmp_path))
    assert result.records_in["one"] == result.records_in["two"] == 0


def test_a_first_run_says_once_what_has_no_name(tmp_path: Path) -> None:
    def build(stream: Stream) -> Stream:
        return stream.key_by("k").aggregate(n=N)

    job, _ = program(build, HALF, ends=False)
    [note] = asyncio.run(first_half(job, tmp_path)).notes
    assert "aggregate-1" in note
    assert ".named(" in note
    job, _ = program(build, ALL, ends=True)
    assert job.run(checkpoint_dir=str(tmp_path), mode="streaming").notes == ()
    job, _ = program(lambda stream: build(stream).named("totals"), HALF, ends=False)
    assert asyncio.run(first_half(job, tmp_path / "other")).notes == ()
