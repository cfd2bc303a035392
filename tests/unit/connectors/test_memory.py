"""`MemorySource` and `collect`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, StreamflowError, cut
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.connectors.memory import MemorySource
from tests.unit.connectors.driving import frame, objects, read, rows, sink_context, write

MOMENT = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)


class TestMemorySource:
    def test_a_frame_may_bring_its_event_times(self) -> None:
        source = MemorySource(
            pl.DataFrame({"a": [1], EVENT_TIME: [MOMENT]}, schema_overrides={EVENT_TIME: EVENT_TIME_TYPE})
        )
        assert source.output_type() == StreamType(Schema({"a": pl.Int64}), timed=True)
        [batch] = read(source, columns=["a"]).batches
        assert isinstance(batch, FrameBatch)
        assert batch.timed

    def test_a_schema_adds_missing_fields_and_drops_others(self) -> None:
        source = MemorySource([{"a": 1, "z": 2}, {"b": "x"}], schema={"a": pl.Int32, "b": pl.String})
        assert rows(source) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
        assert source.output_type().schema == Schema({"a": pl.Int32, "b": pl.String})

    def test_objects_on_request(self) -> None:
        source = MemorySource(pl.DataFrame({"a": [1, 2]}), schema=OBJECTS)
        assert source.output_type() == StreamType(OBJECTS, timed=False)
        assert rows(source) == [{"a": 1}, {"a": 2}]

    def test_no_rows(self) -> None:
        assert rows(MemorySource([])) == []
        assert rows(MemorySource(pl.DataFrame({"a": []}))) == []

    @pytest.mark.parametrize(
        ("data", "options", "message"),
        [
            ([{"a": 1}, {"a": "x"}], {}, "the rows do not fit one schema"),
            ([{"a": object()}], {}, "the rows do not fit one schema: row 0: 'a' is <object object"),
            ([{"a": 1}, {"a": "x"}], {"schema": {"a": pl.Int64}}, "row 1: the row does not fit the schema"),
            ([{"a": 1}, 5], {"schema": {"a": pl.Int64}}, "row 1: a dict was expected, this is a int"),
            (
                pl.DataFrame({"a": ["x"]}),
                {"schema": {"a": pl.Int64}},
                "row 0: 'a' is 'x' (str), not Int64",
            ),
            ("abc", {}, "MemorySource got str; give a DataFrame or a list of rows"),
            (5, {}, "MemorySource got int"),
            ([], {"batch_rows": 0}, "batch_rows is 0; it must be at least 1"),
        ],
    )
    def test_what_does_not_fit(self, data: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(JobDefinitionError) as caught:
            MemorySource(data, **options)
        assert f": {message}" in str(caught.value)


class TestCollected:
    def timed(self, *numbers: int) -> FrameBatch:
        return FrameBatch(
            pl.DataFrame(
                {"n": numbers, EVENT_TIME: [MOMENT] * len(numbers)},
                schema_overrides={EVENT_TIME: EVENT_TIME_TYPE},
            )
        )

    def test_rows_and_frame_come_without_event_time(self) -> None:
        out = Collected()
        write(CollectSink(out), [self.timed(1, 2)], [self.timed(), self.timed(3)])
        assert out.rows() == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert out.frame().to_dict(as_series=False) == {"n": [1, 2, 3]}
        assert len(out) == 3

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([{"a": 1}, {"a": None, "b": MOMENT}], {"a": [1, None], "b": [None, MOMENT]}),
            (["x", "y"], {"value": ["x", "y"]}),
            ([1, 2.5, None], {"value": [1.0, 2.5, None]}),
            ([{"a": {}}, {"a": {"b": 1}}], {"a": [{"b": None}, {"b": 1}]}),
            (
                [{"a": [{"b": 1}, {"c": MOMENT}]}, {"a": []}],
                {"a": [[{"b": 1, "c": None}, {"b": None, "c": MOMENT}], []]},
            ),
            ([{"*": 1, "b": 2}], {"*": [1], "b": [2]}),
            ([{}, {}], {}),
        ],
    )
    def test_objects_become_columns_where_they_can(
        self, values: list[Any], expected: dict[str, list[Any]]
    ) -> None:
        out = Collected()
        write(CollectSink(out), [objects(*values)])
        assert out.rows() == values
        assert out.frame().to_dict(as_series=False) == expected

    @pytest.mark.parametrize(
        ("values", "culprit"),
        [
            ([{"a": 1}, 5], 5),
            ([1, "x"], "x"),
            (["y", b"x"], b"x"),
            ([2, True], True),
            ([{"a": [1]}, {"a": [1, "x"]}], {"a": [1, "x"]}),
            ([{"a": {"b": 1}}, {"a": {"b": True}}], {"a": {"b": True}}),
            ([MOMENT, MOMENT.replace(tzinfo=None)], MOMENT.replace(tzinfo=None)),
            ([{"a": 1}, {2: 1}], {2: 1}),
            ([{"a": float("nan")}, {"a": Decimal("NaN")}], {"a": Decimal("NaN")}),
            (["x", "\ud800"], "\ud800"),
            ([{"a": {"b": set[int]()}}], {"a": {"b": set[int]()}}),
        ],
    )
    def test_objects_that_no_frame_holds_are_refused_and_none_becomes_another(
        self, values: list[Any], culprit: Any
    ) -> None:
        out = Collected()
        write(CollectSink(out), [objects(*values)])
        assert repr(out.rows()) == repr(values)
        with pytest.raises(RecordError, match=r"no DataFrame: .*rows\(\) has them as they are") as raised:
            out.frame()
        assert raised.value.record == cut(culprit)

    def test_rows_of_a_stream_with_columns_keep_the_schema(self) -> None:
        out = Collected()
        sink, kind = CollectSink(out), StreamType(Schema({"a": pl.Int32}), timed=False)

        async def run() -> None:
            writer, committer = sink.writer(kind, sink_context()), sink.committer(sink_context())
            await writer.write(RowBatch([{"a": 1}]))
            await committer.commit(1, await writer.prepare(1))

        asyncio.run(run())
        assert dict(out.frame().schema) == {"a": pl.Int32}

    def test_nothing_written_is_an_empty_frame_with_the_columns(self) -> None:
        out = Collected()
        write(CollectSink(out), [frame(a=[1]).__class__(pl.DataFrame(schema={"a": pl.Int64}))])
        assert dict(out.frame().schema) == {"a": pl.Int64}
        assert out.rows() == []

    def test_reading_before_the_run_says_what_to_do(self) -> None:
        for read_too_early in (Collected().rows, Collected().frame):
            with pytest.raises(StreamflowError, match=r"nothing has been collected yet; run the job first"):
                read_too_early()

    def test_only_what_is_committed_is_seen_and_committing_twice_changes_nothing(self) -> None:
        out = Collected()
        sink = CollectSink(out)
        kind = StreamType(Schema({"a": pl.Int64}), timed=False)

        async def run() -> None:
            writers = [sink.writer(kind, sink_context(subtask=number, parallelism=2)) for number in range(2)]
            committer = sink.committer(sink_context())
            assert committer is not None
            sealed: list[Any] = []
            for number, writer in enumerate(writers):
                await writer.write(frame(a=[number]))
                sealed += await writer.prepare(1)
                await writer.write(frame(a=[100 + number]))
            assert out.rows() == []
            for _ in range(2):
                await committer.commit(1, sealed)
                assert out.rows() == [{"a": 0}, {"a": 1}]
            for writer in writers:
                await writer.close()

        asyncio.run(run())

    def test_a_second_run_starts_anew(self) -> None:
        out = Collected()
        batches: list[AnyBatch] = [frame(a=[1])]
        write(CollectSink(out), batches)
        write(CollectSink(out), batches)
        assert out.rows() == [{"a": 1}]
