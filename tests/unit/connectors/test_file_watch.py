"""`watch`: new files and appended lines, on a clock that jumps."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import Schema
from streamflow.errors import SourceError, StateError
from streamflow.operators.connectors.files import enumerator as enumerator_module
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.contract.source import Enumerator
from tests.unit.connectors.driving import JumpingClock, read_on, source_context

Step = Callable[[], object]


class Watcher:
    """Looks at what a watched source finds; `then` are changes made one by one, each before a look."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.clock = JumpingClock()
        self.context = source_context(clock=self.clock)
        self.enumerator: Enumerator = source.enumerator(self.context)

    def look(self, change: Step | None = None) -> list[Any]:
        """The rows of the splits found next."""
        if change is not None:
            change()
        found = asyncio.run(asyncio.wait_for(self.enumerator.discover(), 5))
        assert not found.final
        assert not any(split.holds_watermark for split in found.splits)
        self.ids = [split.id.rpartition("/")[2] for split in found.splits]
        return [row for split in found.splits for row in read_on(self.source, split, None)]


def lines(path: Path, text: str) -> Step:
    def append() -> None:
        with path.open("a", newline="") as file:
            file.write(text)

    return append


def text_of(found: list[Any]) -> list[str]:
    return [row["line"] for row in found]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("one\ntwo\nthr")
    return path


def test_a_growing_file_is_read_up_to_its_last_whole_line(log: Path) -> None:
    watcher = Watcher(FileSource(log, watch="1s"))
    assert not watcher.source.bounded
    assert text_of(watcher.look()) == ["one", "two"]
    assert watcher.ids == ["app.log[0-8)"]
    assert text_of(watcher.look(lines(log, "ee\nfo"))) == ["three"]
    assert watcher.ids == ["app.log[8-14)"]
    assert text_of(watcher.look(lines(log, "ur\n"))) == ["four"]


def test_it_looks_again_at_the_interval_until_there_is_news(log: Path) -> None:
    watcher = Watcher(FileSource(log, watch="250ms"))
    watcher.look()

    async def later() -> list[str]:
        waiting = asyncio.ensure_future(watcher.enumerator.discover())
        for _ in range(30):
            await asyncio.sleep(0)
        assert len(watcher.clock.slept) > 3
        assert not waiting.done()
        lines(log, "ee\n")()
        return [split.id.rpartition("/")[2] for split in (await waiting).splits]

    assert asyncio.run(later()) == ["app.log[8-14)"]
    assert set(watcher.clock.slept) == {0.25}


def test_new_files_in_a_folder_come_by_age(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("first\n")
    watcher = Watcher(FileSource(tmp_path, watch="1s"))
    assert text_of(watcher.look()) == ["first"]
    (tmp_path / "a.txt").write_text("second\n")
    (tmp_path / "c.txt").write_text("")
    assert text_of(watcher.look()) == ["second"]
    assert text_of(watcher.look(lines(tmp_path / "c.txt", "third\n"))) == ["third"]


def test_a_file_that_was_cut_is_read_from_its_start(log: Path) -> None:
    watcher = Watcher(FileSource(log, watch="1s"))
    watcher.look()
    assert text_of(watcher.look(lambda: log.write_text("new\n"))) == ["new"]
    assert watcher.ids == ["app.log[0-4)#1"]


def test_a_file_that_was_replaced_is_read_from_its_start(log: Path) -> None:
    watcher = Watcher(FileSource(log, watch="1s"))
    watcher.look()

    def rotate() -> None:
        log.rename(log.with_suffix(".1"))
        log.write_text("one\ntwo\nthree\nfour\n")

    assert text_of(watcher.look(rotate)) == ["one", "two", "three", "four"]


def test_other_first_bytes_mean_another_file(log: Path) -> None:
    watcher = Watcher(FileSource(log, watch="1s"))
    watcher.look()
    assert text_of(watcher.look(lambda: log.write_text("ONE\ntwo\nthree\n"))) == ["ONE", "two", "three"]


def test_csv_records_with_newlines_are_not_torn(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,x\n2,"two\nli')
    watcher = Watcher(FileSource(path, watch="1s"))
    assert watcher.look() == [{"a": 1, "b": "x"}]
    assert watcher.look(lines(path, 'nes"\n3,z\n')) == [{"a": 2, "b": "two\nlines"}, {"a": 3, "b": "z"}]


def test_whole_files_are_read_once(tmp_path: Path) -> None:
    source = FileSource(tmp_path, schema={"line": pl.String}, watch="1s")
    watcher = Watcher(source)
    assert watcher.look() == []
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n"))
    assert text_of(watcher.look()) == ["one"]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\n"))
    # Changed as a whole, and read as a whole.
    assert text_of(watcher.look()) == ["one", "two", "three"]


def test_what_is_not_there_yet_is_waited_for_if_the_schema_is_known(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    with pytest.raises(SourceError, match="there is no file"):
        FileSource(path, watch="1s").output_type()
    watcher = Watcher(FileSource(path, schema={"a": pl.Int64}, watch="1s"))
    assert watcher.look() == []
    assert watcher.look(lambda: path.write_text('{"a":1}\n')) == [{"a": 1}]


def test_a_restored_watcher_goes_on_where_it_was(log: Path) -> None:
    first = Watcher(FileSource(log, watch="1s"))
    first.look()
    second = Watcher(FileSource(log, watch="1s"))
    second.enumerator.restore(first.enumerator.snapshot())
    assert text_of(second.look(lines(log, "ee\n"))) == ["three"]


def test_a_large_backlog_is_split(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumerator_module, "SPLIT_BYTES", 5)
    watcher = Watcher(FileSource(log, watch="1s"))
    assert text_of(watcher.look()) == ["one", "two"]
    assert watcher.ids == ["app.log[0-5)", "app.log[5-8)"]


def table(*values: int) -> bytes:
    buffer = BytesIO()
    pl.DataFrame({"a": values}).write_parquet(buffer)
    return buffer.getvalue()


def written_elsewhere(path: Path, data: bytes) -> None:
    path.with_suffix(".tmp").write_bytes(data)
    path.with_suffix(".tmp").rename(path)


@pytest.mark.parametrize("how", [written_elsewhere, Path.write_bytes])
def test_a_table_that_was_replaced_is_read_again(tmp_path: Path, how: Callable[[Path, bytes], Any]) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(table(1, 2))
    watcher = Watcher(FileSource(path, watch="1s"))
    assert watcher.look() == [{"a": 1}, {"a": 2}]
    assert watcher.look(lambda: how(path, table(3, 4))) == [{"a": 3}, {"a": 4}]
    assert watcher.look(lambda: how(path, table(5))) == [{"a": 5}]


@pytest.mark.parametrize("rows", [2, 200])
def test_a_file_overwritten_under_the_same_first_bytes_is_read_from_its_start(
    tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "x.csv"
    header = ",".join(f"a_column_with_a_long_name_{n}" for n in range(4))

    def content(first: int) -> str:
        return header + "\n" + "".join(f"{n},,,\n" for n in range(first, first + rows))

    path.write_text(content(100))
    watcher = Watcher(FileSource(path, schema={"a_column_with_a_long_name_0": pl.Int64}, watch="1s"))
    for first in (100, 300, 500):
        found = watcher.look(lambda first=first: path.write_text(content(first)))
        assert [row["a_column_with_a_long_name_0"] for row in found] == list(range(first, first + rows))


@pytest.mark.parametrize(
    ("name", "options"),
    [("x.txt", {}), ("x.csv", {"schema": {"a": pl.Int64}}), ("*.parquet", {"schema": {"a": pl.Int64}})],
)
def test_a_file_that_is_gone_for_one_look_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: Any
) -> None:
    path = tmp_path / name.replace("*", "x")
    data = {"x.txt": b"one\n", "x.csv": b"a\n1\n"}.get(name, table(1))
    again = {"x.txt": data + b"two\n", "x.csv": data + b"2\n"}.get(name, table(1, 2))
    path.write_bytes(data)
    watcher = Watcher(FileSource(tmp_path / name, watch="1s", **options))
    assert len(watcher.look()) == 1

    steps = iter([path.unlink, lambda: None, lambda: path.write_bytes(again)])

    async def sleep(seconds: float) -> None:
        next(steps)()

    monkeypatch.setattr(watcher.clock, "sleep", sleep)
    assert watcher.look()[-1] in ({"line": "two"}, {"a": 2})


@pytest.mark.parametrize("path", ["in", "in/", "in/*", "in/x.txt", "in/**/x.txt"])
@pytest.mark.parametrize("suffix", ["txt", "csv", "ndjson", "parquet"])
def test_it_starts_on_what_is_not_there_yet(tmp_path: Path, path: str, suffix: str) -> None:
    path = path.replace("txt", suffix)
    schema = {"line" if suffix == "txt" else "a": pl.String if suffix == "txt" else pl.Int64}
    watcher = Watcher(FileSource(f"{tmp_path}/{path}", schema=schema, watch="1s"))
    assert watcher.look() == []

    def come() -> None:
        (tmp_path / "in").mkdir()
        data = {"txt": b"one\n", "csv": b"a\n1\n", "ndjson": b'{"a":1}\n', "parquet": table(1)}[suffix]
        (tmp_path / "in" / f"x.{suffix}").write_bytes(data)

    assert len(watcher.look(come)) == 1


def test_text_needs_no_schema_to_start_on_nothing(tmp_path: Path) -> None:
    assert FileSource(tmp_path / "x.log", watch="1s").output_type().schema == Schema({"line": pl.String})
    with pytest.raises(SourceError, match=r"there is no file yet to infer columns from; give them: schema="):
        FileSource(tmp_path / "x.csv", watch="1s").output_type()


@pytest.mark.parametrize(("before", "after"), [(None, "1s"), ("1s", None)])
def test_a_state_of_the_other_kind_is_refused(log: Path, before: Any, after: Any) -> None:
    state = FileSource(log, watch=before).enumerator(source_context()).snapshot()
    with pytest.raises(StateError, match="watch"):
        FileSource(log, watch=after).enumerator(source_context()).restore(state)
