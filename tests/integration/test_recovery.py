"""Jobs that are stopped, fail or change, on a real disk: what the next start goes on from, and what it refuses.

Crashes at every point, by the thousand, are the simulator's and `make reliability`'s matter.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.errors import ConfigError, JobDefinitionError, RecordError, SinkError, StateError
from streamflow.runtime.ports import Ports

ROWS = 3_000


class Crash(KeyboardInterrupt):
    """The process is gone."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    times = [i * 10 + (i * 7919) % 2_000 for i in range(ROWS)]
    keys = [f"k{i % 13}" for i in range(ROWS)]
    frame = pl.DataFrame({"ts": times, "k": keys, "v": range(ROWS)})
    (tmp_path / "in").mkdir()
    for number, part in enumerate(frame.iter_slices(ROWS // 3)):
        part.write_ndjson(tmp_path / "in" / f"{number}.ndjson")
    return tmp_path


SCHEMA = {"ts": sf.Int64, "k": sf.String, "v": sf.Int64}


class Tap:
    """A source that gives the same rows as the files, as many as the test lets through."""

    def __init__(self, base: Path, limit: int = ROWS) -> None:
        self.rows = pl.concat([pl.read_ndjson(file) for file in sorted((base / "in").iterdir())]).to_dicts()
        self.limit = limit
        self.more: asyncio.Event | None = None

    def let(self, limit: int) -> None:
        self.limit = limit
        if self.more is not None:
            self.more.set()

    @property
    def source(self) -> Any:
        async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
            self.more = asyncio.Event()
            for index in range(start, len(self.rows)):
                while index >= self.limit:
                    await self.more.wait()
                    self.more.clear()
                yield self.rows[index]

        return sf.source(rows, schema=SCHEMA, bounded=True)


def totals(base: Path, *, size: str = "10s", name: str | None = None, tap: Tap | None = None) -> sf.Job:
    job = sf.Job("totals")
    rows = job.read(
        sf.FileSource(str(base / "in" / "*.ndjson"), schema=SCHEMA) if tap is None else tap.source,
        event_time=sf.epoch("ts", unit="ms"),
        watermark=sf.bounded_disorder("2s"),
    )
    windows = rows.key_by("k").window(sf.tumbling(size)).aggregate(n=sf.count(), total=sf.sum("v"))
    if name is not None:
        windows = windows.named(name)
    windows.write(sf.FileSink(base / "out", format="ndjson"))
    return job


def expected(base: Path) -> Counter[tuple[Any, ...]]:
    frame = pl.read_ndjson(base / "in" / "*.ndjson")
    window = pl.col("ts") // 10_000 * 10_000
    grouped = frame.group_by("k", window.alias("w")).agg(
        pl.len().alias("n"), pl.col("v").sum().alias("total")
    )
    return Counter(grouped.select("k", pl.col("w") * 1_000, "n", "total").rows())


def written(base: Path) -> Counter[tuple[Any, ...]]:
    files = sorted((base / "out").glob("*.ndjson"))
    if not files:
        return Counter()
    frame = pl.concat([pl.read_ndjson(file) for file in files])
    start = pl.col("window_start").str.to_datetime(time_unit="us", time_zone="UTC").to_physical()
    return Counter(frame.select("k", start, "n", "total").rows())


def settings(base: Path, **given: Any) -> dict[str, Any]:
    return {
        "mode": "streaming",
        "checkpoint_dir": str(base / "checkpoints"),
        "checkpoint_interval": "10ms",
        "batch_rows": 100,
        **given,
    }


def run(job: sf.Job, ports: Ports | None = None, **given: Any) -> Any:
    async def whole() -> Any:
        return await (await job.start(ports=ports, **given)).wait()

    return asyncio.run(whole())


def crashing(point: str, count: int, tap: Tap) -> Callable[[str], None]:
    """Crash at a point; each epoch that begins lets some rows through, so that there are several."""
    left = count

    def reach(name: str) -> None:
        nonlocal left
        if name == "epoch.begun":
            tap.let(tap.limit + 300)
        if name == point:
            left -= 1
            if left == 0:
                raise Crash(point)

    return reach


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_crashed_job_goes_on_at_any_parallelism(base: Path, mode: str, backend: str) -> None:
    given = settings(
        base,
        mode=mode,
        state_backend=backend,
        checkpoint_interval="1ms",
        micro_batch_interval="1ms",
        memory_budget="10kB",
        batch_rows=20,
    )
    points = [
        "subtask.snapshotted",
        "manifest.named",
        "manifest.published",
        "commit.sink_done",
        "restore.opened",
    ]
    crashes, result = 0, None
    for round in range(40):
        tap = Tap(base, 300)
        ports = Ports(reach=crashing(points[round % len(points)], 2 - round % 2, tap))
        try:
            result = run(totals(base, tap=tap), ports, parallelism=1 + round % 3, **given)
        except Crash:
            crashes += 1
            continue
        finally:
            ports.close()
        break
    assert crashes >= 3
    assert result is not None
    assert result.checkpoint.number >= crashes - 1
    assert written(base) == expected(base)


def test_a_stopped_job_goes_on_where_it_was(base: Path) -> None:
    tap = Tap(base, 0)

    async def part(limit: int) -> Any:
        tap.limit = limit
        handle = await totals(base, tap=tap).start(**settings(base))
        while handle.status().records_read < 1_000:  # noqa: ASYNC110 — a job tells nobody
            await asyncio.sleep(0.002)
        return await handle.stop()

    for limit in range(1_000, ROWS, 1_000):
        result = asyncio.run(part(limit))
        assert result.stopped
        assert not written(base) - expected(base)
    last = run(totals(base, tap=Tap(base)), **settings(base))
    assert last.records_in["read-1"] == 1_000
    assert written(base) == expected(base)


def test_a_job_that_has_ended_has_nothing_left_to_do(base: Path) -> None:
    run(totals(base), **settings(base))
    again = run(totals(base), **settings(base))
    assert sum(again.records_in.values()) == 0
    assert written(base) == expected(base)


def test_restore_none_starts_anew(base: Path) -> None:
    run(totals(base), **settings(base))
    for file in (base / "out").rglob("*"):
        if file.is_file():
            file.unlink()
    again = run(totals(base), **settings(base, restore="none"))
    assert again.records_in["read-1"] == ROWS
    assert written(base) == expected(base)


def test_a_savepoint_is_whole_and_can_be_gone_on_from_elsewhere(base: Path) -> None:
    async def until_savepoint() -> str:
        handle = await totals(base, tap=Tap(base, 1_500)).start(**settings(base, state_backend="rocksdb"))
        place = await handle.savepoint(str(base / "saved"))
        await handle.cancel()
        return place

    place = asyncio.run(until_savepoint())
    epoch = int(place.rpartition("#")[2])
    for file in (base / "checkpoints").rglob("*"):
        if file.is_file():
            file.unlink()
    fresh = settings(base, restore=place, checkpoint_dir=str(base / "elsewhere"), parallelism=3)
    result = run(totals(base, tap=Tap(base)), **fresh)
    assert result.epochs > epoch
    assert written(base) == expected(base)


def test_a_savepoint_does_not_ask_for_output_that_is_visible_already(base: Path) -> None:
    async def until_savepoint() -> str:
        handle = await totals(base, tap=Tap(base, 1_500)).start(**settings(base))
        while not written(base):
            await handle.checkpoint()
        place = await handle.savepoint(str(base / "saved"))
        await handle.cancel()
        return place

    place = asyncio.run(until_savepoint())
    before = written(base)
    (base / "out").rename(base / "taken-away")
    there = settings(base, checkpoint_dir=str(base / "elsewhere"))
    reached = Counter[str]()

    def reach(point: str) -> None:
        reached[point] += 1
        if reached["checkpoint.complete"] == 2:
            raise Crash(point)

    ports = Ports(reach=reach)
    with pytest.raises(Crash):
        run(totals(base, tap=Tap(base, 1_510)), ports, **there, restore=place)
    ports.close()
    run(totals(base, tap=Tap(base)), **there)
    assert before + written(base) == expected(base)


def test_what_cannot_be_restored_is_not_tried_again(base: Path) -> None:
    staged: list[Path] = []

    def reach(point: str) -> None:
        if point == "commit.before":
            staged.extend((base / ".out.streamflow").glob("*/*.ndjson"))
            if staged:
                raise Crash(point)

    ports = Ports(reach=reach)
    with pytest.raises(Crash):
        run(totals(base, tap=Tap(base, 1_500)), ports, **settings(base))
    ports.close()
    for file in staged:
        file.unlink()
    # With a restart the test would take an hour.
    with pytest.raises(SinkError, match="gone"):
        run(totals(base, tap=Tap(base)), **settings(base, restart="fixed", restart_delay="1h"))


def test_run_says_that_it_serves_nobody(base: Path) -> None:
    with pytest.raises(ConfigError, match="control_port"):
        totals(base).run(**settings(base, control_port=0))


@pytest.fixture
def half(base: Path) -> Path:
    """Where a job was stopped halfway."""

    async def part() -> None:
        handle = await totals(base, tap=Tap(base, 1_500), name="sums").start(**settings(base))
        while handle.status().records_read < 1_500:  # noqa: ASYNC110 — a job tells nobody
            await asyncio.sleep(0.002)
        await handle.stop()

    asyncio.run(part())
    return base


def test_state_that_the_job_has_no_place_for_is_refused_by_name(half: Path) -> None:
    with pytest.raises(
        StateError, match="operator sums has state there and is not in the job any more"
    ) as caught:
        run(totals(half, tap=Tap(half), name="renamed"), **settings(half))
    assert "in the job only: renamed" in str(caught.value)
    result = run(totals(half, tap=Tap(half), name="renamed"), **settings(half, allow_dropped_state=True))
    assert result.records_in["read-1"] < ROWS


def test_state_that_an_operator_cannot_take_is_refused_with_what_differs(half: Path) -> None:
    with pytest.raises(StateError, match=r"operator sums: .*10s.*20s"):
        run(totals(half, tap=Tap(half), name="sums", size="20s"), **settings(half))


def test_key_groups_are_fixed_for_the_life_of_the_state(half: Path) -> None:
    with pytest.raises(StateError, match="max_parallelism was 128 and is 64"):
        run(totals(half, tap=Tap(half), name="sums"), **settings(half, max_parallelism=64))


def test_a_job_runs_in_one_process_at_a_time(base: Path) -> None:
    async def two() -> None:
        first = await totals(base, tap=Tap(base, 1_500)).start(**settings(base))
        await first.checkpoint()
        second = await totals(base, tap=Tap(base, 1_500)).start(**settings(base))
        with pytest.raises(StateError, match="process"):
            await second.wait()
        await first.cancel()

    asyncio.run(two())


class Flaky:
    """A function that fails now and then: at every call whose number is in `at`."""

    def __init__(self, *at: int) -> None:
        self.calls = 0
        self.at = at

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls in self.at:
            raise OSError("the service is away")
        return row


def flaky_job(base: Path, function: Flaky) -> tuple[sf.Job, Any]:
    job = sf.Job("flaky")
    rows = job.read(sf.FileSource(str(base / "in" / "*.ndjson"), schema={"v": sf.Int64}))
    out = rows.map(function, schema={"v": sf.Int64}).collect()
    return job, out


def test_a_job_that_fails_is_restarted_from_its_last_checkpoint(base: Path) -> None:
    job, out = flaky_job(base, Flaky(500, 1_500, 1_501))
    result = run(job, **settings(base, restart="fixed", restart_delay="1ms"))
    assert result.restarts == 3
    assert any("the service is away" in note for note in result.notes)
    assert sorted(row["v"] for row in out.rows()) == list(range(ROWS))


class Late:
    """Holds back the thread that publishes the first run's checkpoint: until that run has failed, and, were it up to
    the job, until the next has begun. The next fails, too, once the checkpoint is there."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.loop = asyncio.get_running_loop()
        self.failed = 0
        self.publishing, self.next_began, self.published = (threading.Event() for _ in range(3))

    def reach(self, point: str) -> None:
        if point == "manifest.before" and not self.publishing.is_set():
            self.publishing.set()
            self.loop.call_soon_threadsafe(self.tap.let, ROWS)
            # In vain, if the next run waits for this one's threads.
            self.next_began.wait(0.2)
        elif point == "manifest.published":
            self.published.set()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.failed == 1:
            self.next_began.set()
        fatal = (self.publishing, self.published)
        if self.failed < len(fatal) and fatal[self.failed].is_set():
            self.failed += 1
            raise OSError("the service is away")
        return row


def test_a_run_that_has_failed_publishes_nothing_once_the_next_has_begun(base: Path) -> None:
    async def whole() -> tuple[Any, Any]:
        tap = Tap(base, limit=1_000)
        late = Late(tap)
        job = sf.Job("late")
        out = job.read(tap.source).map(late, schema=SCHEMA).collect()
        given = settings(base, restart="fixed", restart_delay="1ms")
        return await (await job.start(ports=Ports(reach=late.reach), **given)).wait(), out

    result, out = asyncio.run(whole())
    assert result.restarts == 2
    assert sorted(row["v"] for row in out.rows()) == list(range(ROWS))


def test_a_job_that_gets_no_further_is_given_up(base: Path) -> None:
    job, _ = flaky_job(base, Flaky(*range(500, 100_000)))
    with pytest.raises(RecordError, match="the service is away"):
        run(job, **settings(base, restart="exponential", restart_delay="1ms", restart_attempts=3))


def test_a_record_that_fails_would_fail_again(base: Path) -> None:
    function = Flaky(500)
    job, _ = flaky_job(base, function)
    with pytest.raises(RecordError, match="the service is away"):
        run(job, **settings(base))
    assert function.calls < 1_000


def test_a_restart_needs_checkpoints(base: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoints are taken"):
        run(totals(base), mode="streaming", restart="fixed")


def test_a_source_that_cannot_be_replayed_is_refused(base: Path) -> None:
    async def once() -> AsyncIterator[int]:
        yield 1

    job = sf.Job("once")
    job.read(sf.source(once, bounded=True)).collect()
    with pytest.raises(
        JobDefinitionError, match=r"operator read-1, .*: .*once.* could not continue from a checkpoint"
    ):
        run(job, **settings(base))
    run(job)


class FullDisk(LocalDisk):
    """A disk without room for a while: `full` says when."""

    def __init__(self) -> None:
        self.full = False

    def write(self, path: Path, data: bytes, **given: Any) -> None:
        if self.full and "checkpoints" in path.parts:
            raise OSError(28, "No space left on device")
        super().write(path, data, **given)

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        if self.full and "checkpoints" in path.parts:
            raise OSError(28, "No space left on device")
        super().append(path, data, private=private)


def test_checkpoints_that_fail_do_no_harm_until_there_are_too_many(base: Path) -> None:
    async def whole() -> Any:
        disk = FullDisk()
        ports = Ports(disk=disk)
        tap = Tap(base, 1_500)
        given = settings(base, checkpoint_interval="1h")
        handle = await totals(base, tap=tap).start(ports=ports, **given)
        await handle.checkpoint()
        disk.full = True
        with pytest.raises(StateError, match=r"could not be stored.*No space left"):
            await handle.checkpoint()
        disk.full = False
        await handle.checkpoint()
        tap.let(ROWS)
        result = await handle.wait()
        ports.close()
        return result

    result = asyncio.run(whole())
    assert result.checkpoint.failed >= 1
    assert written(base) == expected(base)


def test_too_many_failed_checkpoints_fail_the_job_and_the_next_run_goes_on(base: Path) -> None:
    async def whole() -> Any:
        disk = FullDisk()
        ports = Ports(disk=disk)
        handle = await totals(base, tap=Tap(base, 1_500)).start(ports=ports, **settings(base, restart="none"))
        await handle.checkpoint()
        disk.full = True
        try:
            return await handle.wait()
        finally:
            ports.close()

    with pytest.raises(
        StateError, match=r"in a row.*No space left.*; the job continues .* remove the cause first"
    ):
        asyncio.run(whole())
    run(totals(base, tap=Tap(base)), **settings(base))
    assert written(base) == expected(base)


def test_output_that_no_sink_of_the_job_would_commit_is_not_left_behind_in_silence(tmp_path: Path) -> None:
    def job(*sinks: Any) -> sf.Job:
        job = sf.Job("numbers")
        rows = job.read(sf.MemorySource([{"n": n} for n in range(100)], batch_rows=10))
        for sink in sinks:
            rows.write(sink)
        return job

    def crash(point: str) -> None:
        if point == "commit.before":
            raise RuntimeError("gone")

    one, other = (sf.FileSink(tmp_path / name, format="ndjson") for name in ("one", "other"))
    place = {"checkpoint_dir": tmp_path / "checkpoints", "mode": "micro-batch", "micro_batch_interval": "1ms"}
    with pytest.raises(sf.StreamflowError):
        run(job(one, other), Ports(reach=crash), **place, restart="none")
    with pytest.raises(StateError, match=r"output of write-2 \(FileSink\), which may not be visible"):
        run(job(one), **place)
    with pytest.raises(StateError, match=r"output of write-1 \(FileSink\)"):
        run(job(sf.ConsoleSink(), one), **place)
    run(job(one), **place, allow_dropped_state=True)
    assert len(pl.read_ndjson(tmp_path / "one" / "*.ndjson")) == 100
