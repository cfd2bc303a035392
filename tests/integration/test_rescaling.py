"""Jobs that go on with another parallelism while they run: nothing is lost, nothing is there twice."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow import col
from streamflow.errors import ConfigError, StateError
from streamflow.runners.local import LocalJob
from streamflow.runtime.launching import Launcher

ROWS = 6_000


def job_of(base: Path, rows: int = ROWS) -> sf.Job:
    job = sf.Job("rescaled")
    made = job.read(sf.DataGen({"n": col("index"), "k": col("index") % 17}, rows=rows, rate=3_000))
    totals = made.key_by("k").aggregate(n=sf.count(), total=sf.sum("n")).named("totals")
    totals.write(sf.FileSink(str(base / "out"), format="ndjson"))
    return job


async def started(base: Path, rows: int = ROWS, **more: Any) -> LocalJob:
    settings: dict[str, Any] = {
        "mode": "streaming",
        "checkpoint_interval": "100ms",
        "restart": "none",
        **more,
    }
    return await job_of(base, rows).start(checkpoint_dir=base / "checkpoints", **settings)


def last_rows(base: Path) -> dict[int, tuple[int, int]]:
    """The last row of each key, after every row has taken the place of the one that it says."""
    last: dict[int, tuple[int, int]] = {}
    for file in sorted((base / "out").glob("*.ndjson"), key=lambda file: file.stat().st_mtime_ns):
        for row in map(json.loads, file.read_text().splitlines()):
            now = row["n"], row["total"]
            if row["change"] == "update_before":
                assert last.pop(row["k"]) == now
            else:
                assert row["k"] not in last
                last[row["k"]] = now
    return last


def test_a_running_job_gets_more_subtasks_and_fewer(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await started(tmp_path)
        for parallelism in (3, 2):
            await handle.rescale(parallelism)
            assert {each.parallelism for each in handle.status().operators} == {parallelism}
            await handle.checkpoint()
        result = await handle.wait()
        assert result.restarts == 0
        assert not result.stopped
        assert result.records_in["read-1"] == ROWS

    asyncio.run(whole())
    numbers = {key: range(key, ROWS, 17) for key in range(17)}
    assert last_rows(tmp_path) == {key: (len(each), sum(each)) for key, each in numbers.items()}


def test_checkpoints_that_are_asked_for_around_a_change_come_before_it_and_after_it(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await started(tmp_path, rows=1_000_000)
        before, _, meanwhile = await asyncio.gather(
            handle.checkpoint(), handle.rescale(2), handle.checkpoint()
        )
        assert before < meanwhile
        await handle.stop()

    asyncio.run(whole())


@pytest.mark.parametrize("later", [0, 2, 5, 10])
def test_a_change_that_is_asked_for_while_the_job_starts_again_comes_when_it_is_up(
    later: int, tmp_path: Path
) -> None:
    """Neither is it taken for made with the start, nor for the job's end. `later`: turns of the event loop."""
    failures = iter([ValueError("once")])
    starts_again = asyncio.Event()

    class Words(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "job restarts":
                starts_again.set()

    def failing_once(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 300 and (failure := next(failures, None)) is not None:
            raise failure
        return row

    async def whole() -> None:
        job = sf.Job("restarting")
        made = job.read(sf.DataGen({"n": col("index")}, rows=900, rate=3_000))
        made.map(failing_once, schema={"n": sf.Int64}).write(
            sf.FileSink(str(tmp_path / "out"), format="ndjson")
        )
        handle = await job.start(
            mode="streaming", checkpoint_dir=tmp_path / "checkpoints", restart="fixed", restart_delay="0s"
        )
        await starts_again.wait()
        for _ in range(later):
            await asyncio.sleep(0)
        await handle.rescale(2)
        result = await handle.wait()
        assert {each.parallelism for each in result.operators} == {2}

    words = Words()
    logging.getLogger("streamflow").addHandler(words)
    try:
        asyncio.run(whole())
    finally:
        logging.getLogger("streamflow").removeHandler(words)
    rows = [
        json.loads(line)["n"]
        for file in (tmp_path / "out").glob("*.ndjson")
        for line in file.read_text().splitlines()
    ]
    assert sorted(rows) == list(range(900))


def test_a_change_that_is_asked_for_while_an_ended_job_lets_go_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Launcher.close

    async def whole() -> None:
        closing, go_on = asyncio.Event(), asyncio.Event()

        async def held(launcher: Launcher) -> None:
            closing.set()
            await go_on.wait()
            await close(launcher)

        monkeypatch.setattr(Launcher, "close", held)
        handle = await started(tmp_path, rows=100)
        await closing.wait()
        asking = asyncio.create_task(handle.rescale(2))
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(StateError, match="the job came to its end"):
            await asyncio.wait_for(asking, 30)
        await handle.wait()

    asyncio.run(whole())


def test_a_busy_job_rescales_itself(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await started(tmp_path, autoscale="busy>0.000001 1..4 every 200ms")
        result = await handle.wait()
        assert {each.parallelism for each in result.operators} == {4}

    asyncio.run(whole())
    numbers = {key: range(key, ROWS, 17) for key in range(17)}
    assert last_rows(tmp_path) == {key: (len(each), sum(each)) for key, each in numbers.items()}


@pytest.mark.parametrize(
    "policy", ["busy", "busy>0.8", "1..4", "busy>0.8 0..4", "busy>0.5 busy<0.3 1..4", "idle 1..4"]
)
def test_a_policy_that_makes_no_sense_is_refused(policy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="autoscale is"):
        asyncio.run(started(tmp_path, autoscale=policy))


def test_a_parallelism_that_cannot_be_leaves_the_job_as_it_is(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await started(tmp_path)
        with pytest.raises(ConfigError, match="more than max_parallelism 128"):
            await handle.rescale(129)
        with pytest.raises(ConfigError, match="at least 1"):
            await handle.rescale(0)
        await handle.checkpoint()
        await handle.stop()
        with pytest.raises(StateError, match="not running"):
            await handle.rescale(2)

    asyncio.run(whole())


def test_a_job_without_checkpoints_cannot_be_rescaled(tmp_path: Path) -> None:
    async def whole() -> None:
        handle = await job_of(tmp_path).start(mode="streaming")
        with pytest.raises(ConfigError, match="takes no checkpoints"):
            await handle.rescale(2)
        await handle.cancel()

    asyncio.run(whole())
