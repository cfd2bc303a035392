"""One suite that every source passes: the same rows whatever the batch size, from every position, in any order of
decoding, with threads, after cancelled waits."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.serde import pack, unpack
from streamflow.demo.replay import Replay
from streamflow.errors import SourceError
from streamflow.operators.connectors.datagen import DataGen
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.connectors.generator import source
from streamflow.operators.connectors.memory import MemorySource
from streamflow.operators.contract.source import Fetch, Position, Source, Split, SplitReader
from tests.unit.connectors.driving import discover, fetches, read, read_on, rows, rows_of, source_context

ROWS = 23
START = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "n": range(ROWS),
        "name": [f'name {n}, "quoted"\nand more' if n % 7 == 3 else f"name {n}" for n in range(ROWS)],
        "value": [n / 8 if n % 5 else None for n in range(ROWS)],
        "at": [START + timedelta(seconds=n, milliseconds=n % 3) for n in range(ROWS)],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)
DICTS = FRAME.to_dicts()
PLAIN = [{"n": row["n"], "name": f"näme {row['n']}"} for row in DICTS]
SCHEDULED = FRAME.select("n", scheduled="at")
LINES = [f"line {n}" * (n % 4) for n in range(ROWS)]


@dataclass(frozen=True)
class Case:
    """A source that reads `expected`. `replays`: whether it can go on from a position."""

    make: Callable[[Path], Source]
    expected: list[Any]
    replays: bool = True


def ndjson() -> bytes:
    return FRAME.with_columns(pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")).write_ndjson().encode()


def csv() -> bytes:
    return FRAME.with_columns(pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")).write_csv().encode()


def stored(folder: Path, name: str, content: bytes | Callable[[Path], object]) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


def several(folder: Path) -> Path:
    for name, part in (("a", FRAME.head(9)), ("b", FRAME.slice(9, 0)), ("c", FRAME.slice(9))):
        part.with_columns(pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")).write_ndjson(
            folder / f"{name}.ndjson"
        )
    return folder


async def numbers() -> AsyncIterator[Any]:
    for row in DICTS:
        yield row
        if row["n"] % 4 == 0:
            await asyncio.sleep(0)


async def resuming(start: int) -> AsyncIterator[Any]:
    for row in DICTS[start:]:
        yield row
        if row["n"] % 4 == 0:
            await asyncio.sleep(0)


def file(name: str, content: bytes | Callable[[Path], object], **options: Any) -> Callable[[Path], Source]:
    return lambda folder: FileSource(stored(folder, name, content), **options)


CASES = {
    "memory frame": Case(lambda _: MemorySource(FRAME), DICTS),
    "memory rows": Case(lambda _: MemorySource(DICTS, batch_rows=4), DICTS),
    "memory objects": Case(lambda _: MemorySource(["a", 1, None]), ["a", 1, None]),
    "ndjson": Case(file("x.ndjson", ndjson()), DICTS),
    "ndjson with schema": Case(file("x.jsonl", ndjson(), schema=FRAME.schema), DICTS),
    "ndjson objects": Case(file("x.ndjson", pl.DataFrame(PLAIN).write_ndjson().encode(), schema=OBJECTS), PLAIN),
    "ndjson crlf, no last newline": Case(file("x.ndjson", ndjson().replace(b"\n", b"\r\n")[:-2]), DICTS),
    "ndjson gzip": Case(file("x.ndjson.gz", gzip.compress(ndjson())), DICTS),
    "ndjson zstd": Case(file("x.ndjson.zst", zstandard.compress(ndjson())), DICTS),
    "several files": Case(lambda folder: FileSource(several(folder)), DICTS),
    "csv": Case(file("x.csv", csv()), DICTS),
    "csv with schema": Case(file("x.csv", csv(), schema=FRAME.schema), DICTS),
    "csv without quotes": Case(file("x.csv", pl.DataFrame(PLAIN).write_csv().encode(), quote=None), PLAIN),
    "csv without header": Case(
        file("x.csv", pl.DataFrame(PLAIN).write_csv(include_header=False).encode(), has_header=False,
             schema={"n": pl.Int64, "name": pl.String}), PLAIN),
    "csv objects": Case(
        file("x.csv", pl.DataFrame(PLAIN).write_csv().encode(), schema=OBJECTS),
        [{"n": str(row["n"]), "name": row["name"]} for row in PLAIN]),
    "csv gzip": Case(file("x.csv.gz", gzip.compress(csv())), DICTS),
    "text": Case(file("x.txt", "\n".join(LINES).encode() + b"\n"), [{"line": line} for line in LINES]),
    "text objects": Case(file("x.log", "\n".join(LINES).encode() + b"\n", schema=OBJECTS), LINES),
    "text zstd": Case(
        file("x.text.zst", zstandard.compress("\n".join(LINES).encode())), [{"line": line} for line in LINES]),
    "parquet": Case(file("x.parquet", lambda path: FRAME.write_parquet(path, row_group_size=6)), DICTS),
    "parquet objects": Case(file("x.parquet", FRAME.write_parquet, schema=OBJECTS), DICTS),
    "arrow": Case(file("x.arrow", FRAME.write_ipc), DICTS),
    "datagen": Case(lambda _: DataGen({"n": pl.col("index"), "half": pl.col("index") / 2}, rows=ROWS),
                    [{"n": n, "half": n / 2} for n in range(ROWS)]),
    "datagen function": Case(lambda _: DataGen(lambda n: {"n": n}, rows=ROWS), [{"n": n} for n in range(ROWS)]),
    "datagen splits": Case(lambda _: DataGen({"n": pl.col("index")}, rows=ROWS, splits=3),
                           [{"n": n} for first in range(3) for n in range(first, ROWS, 3)]),
    "datagen paced": Case(lambda _: DataGen({"n": pl.col("index")}, rows=ROWS, rate=1e5),
                          [{"n": n} for n in range(ROWS)]),
    "demo replay": Case(lambda folder: Replay(every="5s", path=stored(folder, "x.parquet", SCHEDULED.write_parquet)),
                        SCHEDULED.to_dicts()),
    "generator with start": Case(lambda _: source(resuming, schema=FRAME.schema, bounded=True), DICTS),
    "generator of objects with start": Case(lambda _: source(resuming, bounded=True), DICTS),
    "generator": Case(lambda _: source(numbers, schema=FRAME.schema, bounded=True), DICTS, replays=False),
    "generator of objects": Case(lambda _: source(numbers, bounded=True), DICTS, replays=False),
}  # fmt: skip


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


@pytest.mark.parametrize("batch_rows", [1, 5, 100])
def test_gives_the_same_rows_for_each_batch_size(case: Case, tmp_path: Path, batch_rows: int) -> None:
    assert rows(case.make(tmp_path), batch_rows=batch_rows) == case.expected


def test_what_it_says_of_itself_holds(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path)
    kind = made.output_type()
    assert made.bounded
    assert made.describe()
    for batch in read(made).batches:
        if isinstance(kind.schema, Schema):
            assert isinstance(batch, FrameBatch)
            assert dict(batch.frame.schema) == dict(kind.schema)
        else:
            assert not isinstance(batch, FrameBatch)


def stored_split(split: Split) -> Split:
    """As a checkpoint gives it back, in a new process."""
    return Split(split.id, unpack(pack(dict(split.payload))), split.holds_watermark)


def stored_position(position: Position) -> Position:
    restored: Position = unpack(pack(dict(position)))
    return restored


@pytest.mark.parametrize("batch_rows", [1, 4])
def test_goes_on_from_every_position_with_exactly_the_rest(
    case: Case, tmp_path: Path, batch_rows: int
) -> None:
    made = case.make(tmp_path)
    assert made.replayable == case.replays
    if not case.replays:
        return
    whole = {split.id: read_on(made, split, None) for split in discover(made)}
    reading = read(made, batch_rows=batch_rows)
    assert reading.positions
    again = case.make(tmp_path)
    for split, position, seen in reading.positions:
        rest = read_on(again, stored_split(split), stored_position(position), batch_rows=7)
        assert rest == whole[split.id][seen:]


def test_a_generator_that_cannot_go_back_says_so() -> None:
    made = source(numbers, bounded=True)
    (split,) = discover(made)
    with pytest.raises(
        SourceError, match="the generator numbers cannot continue behind row 3; give it a parameter `start`"
    ):
        read_on(made, split, {"rows": 3})


def test_pieces_may_be_decoded_in_any_order_and_after_closing(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path)
    context = source_context(batch_rows=3)

    async def run() -> list[Any]:
        found: list[Any] = []
        for split in (await made.enumerator(context).discover()).splits:
            reader = made.reader(split, None, context)
            pieces = await fetches(reader)
            await reader.close()
            backwards = [piece.decode().batch for piece in reversed(pieces)]
            for batch in reversed(backwards):
                found += rows_of(batch)
        return found

    assert asyncio.run(run()) == case.expected


def test_hands_out_its_splits_once_and_in_stable_order(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path)
    expected = [split.id for split in discover(made)]

    async def run() -> None:
        enumerator = made.enumerator(source_context())
        before = pack(dict(enumerator.snapshot()))
        first = await enumerator.discover()
        assert first.final
        assert [split.id for split in first.splits] == expected
        after = pack(dict(enumerator.snapshot()))
        # A new process finds what had not been returned: all of it, or nothing.
        for state, left in ((before, expected), (after, [])):
            restored = case.make(tmp_path).enumerator(source_context())
            restored.restore(unpack(state))
            found = await restored.discover()
            assert [split.id for split in found.splits] == left
            assert found.final

    assert len(set(expected)) == len(expected)
    asyncio.run(run())


def test_a_cancelled_wait_loses_nothing(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path)

    async def slow(function: Callable[..., Any], *args: Any) -> Any:
        for _ in range(5):
            await asyncio.sleep(0)
        return function(*args)

    async def patient_at_last(reader: SplitReader) -> Fetch | None:
        """Gives up on a fetch after ever more turns of the loop, until one comes through."""
        for turns in range(20):
            attempt = asyncio.ensure_future(reader.fetch())
            for _ in range(turns):
                await asyncio.sleep(0)
            if attempt.done():
                return attempt.result()
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        raise AssertionError("the reader never came through")

    async def run() -> list[Any]:
        context = source_context(batch_rows=4, run_blocking=slow)
        found: list[Any] = []
        for split in (await made.enumerator(context).discover()).splits:
            reader = made.reader(split, None, context)
            while (fetch := await patient_at_last(reader)) is not None:
                found += rows_of(fetch.decode().batch)
            await reader.close()
        return found

    assert asyncio.run(run()) == case.expected


def test_reads_only_the_columns_asked_for(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path)
    schema = made.output_type().schema
    if not isinstance(schema, Schema):
        pytest.skip("objects have no columns")
    for name in schema:
        assert rows(made, columns=[name]) == [{name: row[name]} for row in case.expected]
