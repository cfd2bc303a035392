"""`map_async` in jobs with checkpoints: a request that takes long holds no checkpoint up, and is asked again by the run
that goes on from it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf

ROWS = 40


class Service:
    """Answers all but the rows in `slow`."""

    def __init__(self, *slow: int) -> None:
        self.slow = slow
        self.asked: list[int] = []
        self.thirty = asyncio.Event()

    async def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(row["n"])
        if len(self.asked) == 30:
            self.thirty.set()
        if row["n"] in self.slow:
            await asyncio.Event().wait()
        return {"n": row["n"], "said": f"{row['n']}!", "ts": row["ts"]}


def job(folder: Path, service: Service, *, ordered: bool, until: int = ROWS) -> sf.Job:
    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(start, until):
            yield {"n": n, "ts": n * 1000}
        if until < ROWS:
            await asyncio.Event().wait()

    built = sf.Job("asking")
    read = built.read(
        sf.source(rows, schema={"n": sf.Int64, "ts": sf.Int64}, bounded=True),
        event_time=sf.epoch("ts", unit="ms"),
        watermark=sf.bounded_disorder("0s"),
    )
    said = read.map_async(
        service.ask, ordered=ordered, timeout="1d", schema={"n": sf.Int64, "said": sf.String, "ts": sf.Int64}
    )
    said.write(sf.FileSink(folder / "out", format="ndjson"))
    counts = said.key_by("said").window(sf.tumbling("10s")).aggregate(n=sf.count())
    counts.late.write(sf.FileSink(folder / "late", format="ndjson"))
    counts.write(sf.FileSink(folder / "counts", format="ndjson"))
    return built


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [line for path in (folder / name).glob("*.ndjson") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 1)])
def test_what_was_under_way_is_asked_again(tmp_path: Path, ordered: bool, before: int, after: int) -> None:
    first, second = Service(5, 17), Service()
    settings: dict[str, Any] = {
        "mode": "streaming",
        "checkpoint_dir": str(tmp_path / "checkpoints"),
        "checkpoint_interval": "1h",
    }

    async def die_with_requests_under_way() -> None:
        handle = await job(tmp_path, first, ordered=ordered, until=30).start(parallelism=before, **settings)
        await first.thirty.wait()
        # It does not wait for the requests, which nobody answers.
        await asyncio.wait_for(handle.checkpoint(), 10)
        await handle.cancel()

    asyncio.run(die_with_requests_under_way())
    early = [row["n"] for row in written(tmp_path, "out")]
    assert not {5, 17} & set(early)
    assert len(early) >= (5 if ordered else 28)

    job(tmp_path, second, ordered=ordered).run(parallelism=after, **settings)
    assert {5, 17} <= set(second.asked)
    assert not set(second.asked) & set(early)
    assert sorted(row["n"] for row in written(tmp_path, "out")) == list(range(ROWS))
    assert sorted(row["said"] for row in written(tmp_path, "counts")) == sorted(f"{n}!" for n in range(ROWS))
    assert written(tmp_path, "late") == []


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("ended_by", ["checkpoint", "stop"])
def test_requests_hold_no_checkpoint_up_when_all_input_has_come(
    tmp_path: Path, parallelism: int, ended_by: str
) -> None:
    first, second = Service(5, 17), Service()
    settings: dict[str, Any] = {
        "mode": "streaming",
        "parallelism": parallelism,
        "checkpoint_dir": str(tmp_path / "checkpoints"),
        "checkpoint_interval": "1h",
    }

    async def end_with_requests_under_way() -> None:
        handle = await job(tmp_path, first, ordered=False).start(**settings)
        while len(first.asked) < ROWS or handle.status().records_read < ROWS:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        if ended_by == "stop":
            assert (await asyncio.wait_for(handle.stop(), 10)).stopped
            return
        assert await asyncio.wait_for(handle.checkpoint(), 10) == 1
        assert await asyncio.wait_for(handle.checkpoint(), 10) == 2
        await handle.cancel()

    asyncio.run(end_with_requests_under_way())
    assert sorted({row["n"] for row in written(tmp_path, "out")} ^ set(range(ROWS))) == [5, 17]

    job(tmp_path, second, ordered=False).run(**settings)
    assert sorted(second.asked) == [5, 17]
    assert sorted(row["n"] for row in written(tmp_path, "out")) == list(range(ROWS))
    assert sorted(row["said"] for row in written(tmp_path, "counts")) == sorted(f"{n}!" for n in range(ROWS))
    assert written(tmp_path, "late") == []


def test_a_job_that_is_stopped_without_checkpoints_waits_for_its_answers(tmp_path: Path) -> None:
    asked, answers = asyncio.Event(), asyncio.Event()

    async def ask(row: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await answers.wait()
        return row

    async def run() -> None:
        async def rows() -> AsyncIterator[dict[str, Any]]:
            yield {"n": 1, "m": 2}
            await asyncio.Event().wait()

        built = sf.Job("asking")
        out = (
            built.read(sf.source(rows, schema={"n": sf.Int64, "m": sf.Int64}))
            .map_async(ask, schema={"n": sf.Int64, "m": sf.Int64})
            .collect()
        )
        handle = await built.start(mode="streaming")
        await asked.wait()
        stopping = asyncio.create_task(handle.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        answers.set()
        await stopping
        assert out.rows() == [{"n": 1, "m": 2}]

    asyncio.run(run())
