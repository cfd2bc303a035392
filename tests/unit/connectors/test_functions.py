"""`sf.source` and `sf.sink`: the user's own functions at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
import pytest

from streamflow.errors import JobDefinitionError, RecordError, SinkError, SourceError
from streamflow.operators.connectors.function_sink import sink
from streamflow.operators.connectors.generator import source
from tests.unit.connectors.driving import discover, frame, objects, read, rows, source_context, write


class TestSource:
    def test_records_go_on_as_soon_as_the_generator_waits(self) -> None:
        async def ticking() -> AsyncIterator[int]:
            yield 1
            yield 2
            await gate.wait()
            yield 3

        async def run() -> list[int]:
            nonlocal gate
            gate = asyncio.Event()
            made = source(ticking)
            assert not made.bounded
            reader = made.reader(discovered, None, source_context())
            sizes = []
            while (fetch := await reader.fetch()) is not None:
                sizes.append(len(fetch.decode().batch))
                gate.set()
            await reader.close()
            return sizes

        gate = asyncio.Event()
        [discovered] = discover(source(ticking))
        assert asyncio.run(run()) == [2, 1]

    def test_a_fast_generator_is_held_back(self) -> None:
        made_so_far = 0

        async def endless() -> AsyncIterator[int]:
            nonlocal made_so_far
            while True:
                made_so_far += 1
                yield made_so_far

        async def run() -> None:
            made = source(endless)
            reader = made.reader(discovered, None, source_context(batch_rows=10))
            first = await reader.fetch()
            for _ in range(50):
                await asyncio.sleep(0)
            assert first is not None
            assert made_so_far <= 30
            await reader.close()

        [discovered] = discover(source(endless))
        asyncio.run(run())

    def test_closing_ends_the_generator(self) -> None:
        ended = []

        async def careful() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async def run() -> None:
            reader = source(careful).reader(discovered, None, source_context())
            await reader.fetch()
            await reader.close()

        [discovered] = discover(source(careful))
        asyncio.run(run())
        assert ended == [True]

    def test_an_error_comes_behind_what_was_yielded_before(self) -> None:
        async def broken() -> AsyncIterator[int]:
            yield 1
            raise ValueError("no more")

        async def run() -> None:
            reader = source(broken).reader(discovered, None, source_context())
            fetch = await reader.fetch()
            assert fetch is not None
            assert len(fetch.decode().batch) == 1
            for _ in range(2):
                with pytest.raises(
                    SourceError, match="the generator broken raised ValueError: no more"
                ) as caught:
                    await reader.fetch()
                assert isinstance(caught.value.__cause__, ValueError)
            await reader.close()

        [discovered] = discover(source(broken))
        asyncio.run(run())

    def test_rows_that_do_not_fit_follow_the_policy(self) -> None:
        async def mixed() -> AsyncIterator[Any]:
            yield {"n": 1}
            yield {"n": "x"}
            yield 5

        made = source(mixed, schema={"n": pl.Int64}, bounded=True)
        reading = read(made, on_error="skip")
        assert reading.rows == [{"n": 1}]
        assert ["row 1" in reading.bad[0], "row 2: a dict was expected" in reading.bad[1]] == [True, True]
        with pytest.raises(RecordError, match="split mixed, row 1"):
            rows(made)

    def test_only_asynchronous_generator_functions_will_do(self) -> None:
        def plain() -> Any:
            yield 1

        async def no_yield() -> None:
            return None

        def at_once() -> list[int]:
            return [1]

        for wrong in (plain, no_yield, at_once, 5):
            with pytest.raises(
                JobDefinitionError, match="give a function that is written async def … yield …"
            ):
                source(wrong)  # type: ignore[arg-type]


class TestSink:
    def test_it_gets_each_batch_as_rows(self) -> None:
        got: list[list[Any]] = []

        async def store(batch: list[Any]) -> None:
            got.append(batch)

        write(sink(store), [frame(a=[1, 2]), frame(a=[])], [frame(a=[3])])
        write(sink(store), [objects("x")])
        assert got == [[{"a": 1}, {"a": 2}], [{"a": 3}], ["x"]]

    def test_its_error_is_named(self) -> None:
        async def store(batch: list[Any]) -> None:
            raise OSError("refused")

        with pytest.raises(
            SinkError, match="the function store raised OSError: refused; it was given 1 rows"
        ):
            write(sink(store), [frame(a=[1])])

    def test_an_object_with_an_asynchronous_call_will_do(self) -> None:
        class Store:
            async def __call__(self, batch: list[Any]) -> None:
                got.extend(batch)

        got: list[Any] = []
        write(sink(Store()), [frame(a=[1])])
        assert got == [{"a": 1}]
        assert sink(Store()).describe() == "sink(Store)"

    def test_only_asynchronous_functions_will_do(self) -> None:
        for wrong in (print, 5, lambda rows: None):
            with pytest.raises(JobDefinitionError, match="sink got "):
                sink(wrong)  # type: ignore[arg-type]
