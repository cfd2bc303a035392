"""One suite that every sink passes: everything written arrives once, epoch by epoch; two-phase ones show nothing before
it is committed, bear repeated commits, and leave nothing of what was not sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.core.serde import pack, unpack
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.connectors.console import ConsoleSink
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.connectors.function_sink import sink
from streamflow.operators.contract.sink import Committable, Sink
from tests.unit.connectors.driving import frame, rows, run, sink_context, stream_type, write


@dataclass
class Kit:
    """A sink and how to see what it has made visible, as numbers in any order."""

    sink: Sink
    visible: Callable[[], list[int]]


@dataclass
class Case:
    make: Callable[[Path], Kit]
    two_phase: bool = field(default=True)


def collecting(_: Path) -> Kit:
    out = Collected()
    return Kit(
        CollectSink(out), lambda: [row["n"] for row in out.rows()] if "not run" not in repr(out) else []
    )


def calling(_: Path) -> Kit:
    got: list[int] = []

    async def store(batch: list[Any]) -> None:
        got.extend(row["n"] for row in batch)

    return Kit(sink(store), lambda: got)


def files(name: str, **options: Any) -> Callable[[Path], Kit]:
    def make(folder: Path) -> Kit:
        target = folder / name
        schema = {"n": pl.Int64}

        def visible() -> list[int]:
            if not target.exists() or (
                target.is_dir() and not [x for x in target.iterdir() if x.name[0] != "."]
            ):
                return []
            return [row["n"] for row in rows(FileSource(target, schema=schema))]

        return Kit(FileSink(target, **options), visible)

    return make


CASES = {
    "collect": Case(collecting),
    "function": Case(calling, two_phase=False),
    "parquet folder": Case(files("out")),
    "ndjson folder": Case(files("out", format="ndjson")),
    "csv folder": Case(files("out", format="csv")),
    "arrow folder": Case(files("out", format="arrow")),
    "partitions": Case(files("out", format="ndjson", partition_by="even")),
    "rolled": Case(files("out", format="csv", roll=2)),
    "appending": Case(files("out", mode="append")),
    "overwriting": Case(files("out", mode="overwrite")),
    "parquet file": Case(files("out.parquet")),
    "ndjson file": Case(files("out.ndjson")),
    "csv file": Case(files("out.csv")),
    "arrow file": Case(files("out.arrow")),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


def numbered(*numbers: int) -> Any:
    return frame(n=list(numbers), even=[n % 2 == 0 for n in numbers])


def through_storage(committables: Sequence[Committable]) -> list[Committable]:
    """Committables as a checkpoint gives them back."""
    restored: list[Committable] = unpack(pack([dict(committable) for committable in committables]))
    return restored


def test_everything_arrives_once(case: Case, tmp_path: Path) -> None:
    kit = case.make(tmp_path)
    write(kit.sink, [numbered(1, 2, 3), numbered(4)], [numbered(5, 6)], [numbered(7)])
    assert sorted(kit.visible()) == [1, 2, 3, 4, 5, 6, 7]


def test_the_delivery_it_promises_is_the_one_it_can_keep(case: Case, tmp_path: Path) -> None:
    kit = case.make(tmp_path)
    assert kit.sink.delivery == ("exactly_once" if case.two_phase else "at_least_once")
    assert (kit.sink.committer(sink_context()) is not None) == case.two_phase
    assert kit.sink.describe()


def test_nothing_is_seen_before_its_epoch_is_committed_and_repeating_changes_nothing(
    case: Case, tmp_path: Path
) -> None:
    if not case.two_phase:
        pytest.skip("writes at once, by its contract")
    kit = case.make(tmp_path)
    kind = stream_type(numbered(1))
    writers = [
        kit.sink.writer(kind, sink_context(subtask=number, parallelism=2, seed=number)) for number in range(2)
    ]
    committer = kit.sink.committer(sink_context())
    seen: list[int] = []
    for epoch in (1, 2, 3):
        sealed: list[Committable] = []
        fresh = [epoch * 100 + n for n in range(6)]
        for writer, part in zip(writers, (fresh[:4], fresh[4:]), strict=True):
            run(writer.write(numbered(*part)))
            sealed += run(writer.prepare(epoch))
            assert sorted(kit.visible()) == seen
        seen += fresh
        for _ in range(3):
            assert committer is not None
            run(committer.commit(epoch, through_storage(sealed)))
            assert sorted(kit.visible()) == seen
            if not isinstance(kit.sink, CollectSink):
                # As after a crash: a new committer, and what the checkpoint holds.
                committer = kit.sink.committer(sink_context())
    for writer in writers:
        run(writer.write(numbered(999)))
        run(writer.close())
    assert sorted(kit.visible()) == seen
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_what_was_never_sealed_leaves_nothing(case: Case, tmp_path: Path) -> None:
    if not case.two_phase:
        pytest.skip("writes at once, by its contract")
    kit = case.make(tmp_path)

    writer = kit.sink.writer(stream_type(numbered(1)), sink_context())
    run(writer.write(numbered(*range(10))))
    run(writer.close())
    assert kit.visible() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_console_is_a_sink_of_one_phase() -> None:
    assert ConsoleSink().delivery == "at_least_once"
    assert ConsoleSink().committer(sink_context()) is None
