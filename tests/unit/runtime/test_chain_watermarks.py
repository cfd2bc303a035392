"""A watermark on its way through a chain, past operators that put out what it triggers in several parts."""

from __future__ import annotations

import polars as pl
import pytest

from streamflow.core.elements import AnyBatch, StreamElement
from streamflow.core.frame import FrameBatch
from streamflow.graph.logical import Input
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import Collector, Operator
from streamflow.runtime.task.chain import Chain, Link


class InParts(Operator):
    """Puts out the numbers up to the watermark, a few at a time; passes on what it is given."""

    def __init__(self, parts: int, log: list[str], name: str) -> None:
        self._parts, self._log, self._name = parts, log, name
        self._left = parts

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        out.emit(batch)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._log.append(f"{self._name} {watermark}")
        self._left = (self._left or self._parts) - 1
        out.emit(FrameBatch(pl.DataFrame({"from": [self._name], "left": [self._left]})))
        return watermark - 1

    @property
    def unfinished(self) -> bool:
        return self._left > 0


class Kept:
    def __init__(self, node: str) -> None:
        self.reads = Input(node)
        self.rows: list[tuple[object, ...]] = []

    def put(self, batch: AnyBatch) -> None:
        assert isinstance(batch, FrameBatch)
        self.rows += batch.frame.rows()

    async def flush(self) -> None: ...

    async def send(self, element: StreamElement) -> None: ...

    def waiting(self) -> tuple[()]:
        return ()

    async def seal(self, epoch: int) -> list[tuple[str, dict[str, object]]]:
        return []

    async def close(self) -> None: ...


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_whoever_stops_halfway_is_called_again_before_the_next(first: int, second: int) -> None:
    log: list[str] = []
    operators = [InParts(first, log, "a"), InParts(second, log, "b")]
    links = [
        Link(name, name, operator, OperatorMetrics(name, 0))
        for name, operator in zip("ab", operators, strict=True)
    ]
    kept = Kept("b")
    chain = Chain(links, [kept])
    for time in (100, 200):
        log.clear()
        kept.rows.clear()
        calls = 0
        while (forwarded := chain.watermark(time)) is None:
            calls += 1
            assert calls <= len(kept.rows) < first + second, "some has been put out, to be handed on"
        assert calls == first + second - 2
        assert log == [f"a {time}"] * first + [f"b {time - 1}"] * second
        assert forwarded == [("a", time - 1), ("b", time - 2)]
        assert kept.rows == [("a", left) for left in reversed(range(first))] + [
            ("b", left) for left in reversed(range(second))
        ]
