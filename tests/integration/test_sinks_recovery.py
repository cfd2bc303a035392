"""A job with every kind of `FileSink` crashes again and again on a real disk: each record is in each output once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.runtime.ports import Ports

ROWS = 400
STEP = 40
POINTS = [
    "commit.before",
    "commit.renamed",
    "commit.sink_done",
    "checkpoint.complete",
    "manifest.named",
    "commit.after",
]


class Crash(KeyboardInterrupt):
    """The process is gone."""


class Rows:
    """Lets some rows through with each epoch."""

    def __init__(self) -> None:
        self.limit = STEP
        self.more = asyncio.Event()

    def let(self) -> None:
        self.limit += STEP
        self.more.set()

    @property
    def source(self) -> Any:
        async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
            for n in range(start, ROWS):
                while n >= self.limit:
                    await self.more.wait()
                    self.more.clear()
                yield {"n": n, "even": n % 2 == 0, "text": f"{n},\n"}

        return sf.source(rows, schema={"n": sf.Int64, "even": sf.Boolean, "text": sf.String}, bounded=True)


def job(folder: Path, rows: Rows) -> sf.Job:
    built = sf.Job("copy")
    stream = built.read(rows.source)
    stream.write(sf.FileSink(folder / "parts"))
    stream.write(sf.FileSink(folder / "by", format="csv", partition_by="even", roll=7))
    stream.write(sf.FileSink(folder / "appended", format="ndjson", mode="append"))
    stream.write(sf.FileSink(folder / "overwritten", format="arrow", mode="overwrite"))
    stream.write(sf.FileSink(folder / "one.ndjson"))
    stream.write(sf.FileSink(folder / "one.csv", mode="overwrite"))
    stream.write(sf.FileSink(folder / "one.parquet", mode="append"))
    return built


def crashing(point: str, count: int, rows: Rows) -> Callable[[str], None]:
    left = count

    def reach(name: str) -> None:
        nonlocal left
        if name == "epoch.begun":
            rows.let()
        if name == point:
            left -= 1
            if left == 0:
                raise Crash(point)

    return reach


def earlier_output(folder: Path) -> None:
    """Output from before the job: kept when it appends, gone when it overwrites."""
    (folder / "appended").mkdir()
    (folder / "appended" / "part-00000-00000300-0000.ndjson").write_text('{"n":-1,"even":false,"text":""}\n')
    (folder / "overwritten").mkdir()
    pl.DataFrame({"n": [-2]}).write_ipc(folder / "overwritten" / "part-00000-00000001-0000.arrow")
    (folder / "one.csv").write_text("n,even,text\n-3,false,x\n")


def read(folder: Path) -> dict[str, list[int]]:
    lines = [path.read_text().splitlines() for path in (folder / "appended").glob("*.ndjson")]
    tables = [pl.read_ipc(path) for path in (folder / "overwritten").glob("*.arrow")]
    found = {
        "parts": pl.concat([pl.read_parquet(path) for path in (folder / "parts").glob("*.parquet")])[
            "n"
        ].to_list(),
        "by": [n for path in (folder / "by").rglob("part-*") for n in pl.read_csv(path)["n"].to_list()],
        "appended": [json.loads(line)["n"] for part in lines for line in part],
        "overwritten": pl.concat(tables)["n"].to_list(),
        "one.ndjson": pl.read_ndjson(folder / "one.ndjson")["n"].to_list(),
        "one.csv": pl.read_csv(folder / "one.csv")["n"].to_list(),
        "one.parquet": pl.read_parquet(folder / "one.parquet")["n"].to_list(),
    }
    return {name: sorted(numbers) for name, numbers in found.items()}


# A batch job commits at its end only: there are few crashes to be had.
@pytest.mark.parametrize(("mode", "least"), [("streaming", 5), ("batch", 2)])
def test_every_record_is_in_every_output_once(tmp_path: Path, mode: str, least: int) -> None:
    earlier_output(tmp_path)
    crashes = 0
    for life in range(30):
        rows = Rows()
        point = POINTS[life % len(POINTS)]
        # Not always the same of the sinks, of which each epoch commits seven.
        count = 1 if point in ("commit.before", "commit.after", "checkpoint.complete") else 1 + life * 3 % 11
        ports = Ports(reach=crashing(point, count, rows))
        try:
            asyncio.run(one_life(tmp_path, rows, ports, mode, parallelism=1 + life % 2))
        except Crash:
            crashes += 1
            continue
        finally:
            ports.close()
        break
    assert crashes >= least
    whole = list(range(ROWS))
    expected = dict.fromkeys(
        ["parts", "by", "appended", "overwritten", "one.ndjson", "one.csv", "one.parquet"], whole
    )
    assert read(tmp_path) == {**expected, "appended": [-1, *whole]}
    left = [
        path.name
        for path in tmp_path.rglob(".*.streamflow/**/*")
        if path.is_file() and path.suffix != ".json"
    ]
    assert left == []


async def one_life(folder: Path, rows: Rows, ports: Ports, mode: str, parallelism: int) -> None:
    handle = await job(folder, rows).start(
        ports=ports,
        mode=mode,
        parallelism=parallelism,
        checkpoint_dir=str(folder / "checkpoints"),
        checkpoint_interval="1ms",
        batch_rows=16,
    )
    await handle.wait()
