"""`FileSource` in a job that goes on from a checkpoint, in a new process, while files come, grow and go: what had not
been handed out is found, what had not been read is read."""

from __future__ import annotations

import asyncio
import gzip
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.serde import pack, unpack
from streamflow.errors import SourceError
from streamflow.operators.connectors.files import enumerator as enumerator_module
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.contract.source import Enumerator, Split
from tests.unit.connectors.driving import JumpingClock, discover, read, read_on, source_context


def stored(value: Any) -> Any:
    """As a checkpoint gives it back."""
    return unpack(pack(dict(value)))


class Follower:
    """A watched source in one process after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[str] = []
        self.begin()

    def begin(self) -> None:
        self.source = FileSource(self.folder, schema={"line": pl.String}, watch="1s")
        self.enumerator: Enumerator = self.source.enumerator(source_context(clock=JumpingClock()))
        # The first look returns at once, whatever it finds.
        self.take(asyncio.run(self.enumerator.discover()).splits)

    def restart(self) -> None:
        state = stored(self.enumerator.snapshot())
        self.source = FileSource(self.folder, schema={"line": pl.String}, watch="1s")
        self.enumerator = self.source.enumerator(source_context(clock=JumpingClock()))
        self.enumerator.restore(state)
        self.take(asyncio.run(self.enumerator.discover()).splits)

    def look(self) -> None:
        async def soon() -> Any:
            waiting = asyncio.ensure_future(self.enumerator.discover())
            for _ in range(20):
                await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                return []
            return waiting.result().splits

        self.take(asyncio.run(soon()))

    def take(self, splits: Any) -> None:
        for split in splits:
            kept = Split(split.id, stored(split.payload))
            self.rows += [row["line"] for row in read_on(self.source, kept, None)]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["append", "half", "new", "zipped", "restart", "look"]), st.integers(0, 2)),
    max_size=12,
)


@given(changes=CHANGES)
def test_a_watched_folder_is_read_once_however_often_the_job_goes_on(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("in")
    follower = Follower(folder)
    written: list[str] = []
    halves: dict[Path, str] = {}

    def append(path: Path, text: str) -> None:
        with path.open("a") as file:
            file.write(text)

    for number, (what, which) in enumerate(changes):
        path = folder / f"{which}.txt"
        line = f"line {number}"
        if what == "append":
            append(path, f"{line}\n")
            written.append(halves.pop(path, "") + line)
        elif what == "half":
            append(path, line)
            halves[path] = halves.get(path, "") + line
        elif what == "new":
            (folder / f"new-{number}.txt").write_text(f"{line}\n")
            written.append(line)
        elif what == "zipped":
            (folder / f"new-{number}.txt.gz").write_bytes(gzip.compress(f"{line}\n".encode()))
            written.append(line)
        elif what == "restart":
            follower.restart()
        else:
            follower.look()
    follower.restart()
    assert sorted(follower.rows) == sorted(written)


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv", "x.parquet"])
@pytest.mark.parametrize("batch_rows", [1, 3, 50])
def test_every_position_in_every_part_of_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch_rows: int
) -> None:
    monkeypatch.setattr(enumerator_module, "SPLIT_BYTES", 97)
    frame = pl.DataFrame({"n": range(40), "text": ["ü" * (n % 9) for n in range(40)]})
    writers: dict[str, Any] = {
        "x.ndjson": frame.write_ndjson,
        "x.csv": frame.write_csv,
        "x.parquet": lambda path: frame.write_parquet(path, row_group_size=7),
    }
    writers[name](tmp_path / name)
    source = FileSource(tmp_path / name, quote=None)
    splits = discover(source)
    assert len(splits) > 3
    whole = {split.id: read_on(source, split, None) for split in splits}
    assert [row["n"] for rows in whole.values() for row in rows] == list(range(40))
    for split, position, seen in read(source, batch_rows=batch_rows).positions:
        kept = Split(split.id, stored(split.payload))
        rest = read_on(FileSource(tmp_path / name, quote=None), kept, stored(position), batch_rows=2)
        assert rest == whole[split.id][seen:]


class TestColumnsToldFromTheFirstRows:
    @pytest.mark.parametrize("watch", [None, "1s"])
    def test_a_job_that_would_read_other_columns_is_refused(self, tmp_path: Path, watch: str | None) -> None:
        (tmp_path / "a.ndjson").write_text('{"n":1,"s":"x"}\n')
        (tmp_path / "b.ndjson").write_text('{"n":1.5,"s":"x"}\n')
        source = FileSource(tmp_path, watch=watch)
        enumerator = source.enumerator(source_context())
        asyncio.run(enumerator.discover())
        state = stored(enumerator.snapshot())
        FileSource(tmp_path, watch=watch).enumerator(source_context()).restore(state)
        (tmp_path / "a.ndjson").unlink()
        with pytest.raises(
            SourceError,
            match=r"'n' was Int64 and is Float64; give them: schema={'n': sf.Int64, 's': sf.String}",
        ):
            FileSource(tmp_path, watch=watch).enumerator(source_context()).restore(state)

    def test_columns_that_the_job_says_may_be_others(self, tmp_path: Path) -> None:
        (tmp_path / "a.ndjson").write_text('{"n":1}\n')
        state = stored(FileSource(tmp_path).enumerator(source_context()).snapshot())
        FileSource(tmp_path, schema={"n": pl.Float64}).enumerator(source_context()).restore(state)


def test_a_file_that_went_while_nothing_ran_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"n":1}\n' * 3)
    source = FileSource(tmp_path / "a.ndjson", schema={"n": pl.Int64})
    (split,) = discover(source)
    (tmp_path / "a.ndjson").unlink()
    with pytest.raises(SourceError, match=r"cannot read '.*a\.ndjson': No such file or directory"):
        read_on(source, split, {"offset": 8})


def _text(first: int, suffix: str) -> bytes:
    """Records of one length each, as a file of this kind holds them."""
    numbers = range(first, first + 100)
    if suffix == "parquet":
        buffer = BytesIO()
        pl.DataFrame({"n": list(numbers)}).write_parquet(buffer)
        return buffer.getvalue()
    if suffix == "csv":
        return b"n\n" + b"".join(b"%d\n" % n for n in numbers)
    lines = b"".join(b'{"n":%d}\n' % n for n in numbers)
    return gzip.compress(lines) if suffix == "ndjson.gz" else lines


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet", "ndjson.gz"])
@pytest.mark.parametrize("watch", [None, "1s"])
def test_a_file_that_was_replaced_while_nothing_ran_is_not_read_on(
    tmp_path: Path, suffix: str, watch: str | None
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(_text(100, suffix))
    source = FileSource(path, schema={"n": pl.Int64}, watch=watch)
    (split,) = discover(source, clock=JumpingClock())
    reading = read(FileSource(path, schema={"n": pl.Int64}), batch_rows=10)
    _, position, seen = reading.positions[0]
    kept = Split(split.id, stored(split.payload))
    # The same content in another place of the disk is the same file, and it may have grown since.
    path.unlink()
    path.write_bytes(_text(100, suffix) + (b"n" if suffix in ("ndjson", "csv") else b""))
    assert [row["n"] for row in read_on(source, kept, position)] == list(range(100 + seen, 200))
    path.write_bytes(_text(200, suffix))
    for where in (position, None):
        with pytest.raises(
            SourceError, match=r"is not the file any more that this job began to read; put it back"
        ):
            read_on(source, kept, where)


def test_a_file_that_is_replaced_while_it_is_read_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(_text(100, "ndjson"))
    source = FileSource(path, schema={"n": pl.Int64})
    (split,) = discover(source)

    async def run() -> None:
        reader = source.reader(split, None, source_context(batch_rows=1))
        first = await reader.fetch()
        assert first is not None
        assert len(first.decode().batch)
        second = await reader.fetch()
        assert second is not None
        (tmp_path / "new").write_bytes(_text(200, "ndjson"))
        (tmp_path / "new").replace(path)
        with pytest.raises(SourceError, match="is not the file any more that this job began to read"):
            second.decode()
        await reader.close()

    asyncio.run(run())
