"""Read-ahead: pieces are decoded several at a time and handed out in order, each with what the task has to know."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError, SourceError
from streamflow.graph.logical import Input
from streamflow.observe.registry import OperatorMetrics, add_counted
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.contract.source import Decoded, Fetch, Split
from streamflow.operators.stateless.columns import Filter
from streamflow.runtime.task.chain import Link
from streamflow.runtime.task.read_ahead import Piece, Prefix, SplitPump
from streamflow.state.backends.memory import MemoryBackend
from streamflow.testing import SteppedLoop, TestClock
from streamflow.time.clock import SeededRandom

NUMBERS = StreamType(Schema({"n": pl.Int64}), timed=False)


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    stepped = SteppedLoop(TestClock())
    yield stepped
    stepped.close_quietly()


@dataclass
class Reader:
    """Gives these pieces; each decode is a function or a batch's values."""

    pieces: list[Any]
    fetched: int = 0
    closed: int = 0
    nbytes: int = 0

    async def fetch(self) -> Fetch | None:
        if self.fetched == len(self.pieces):
            return None
        piece = self.pieces[self.fetched]
        self.fetched += 1
        if isinstance(piece, Exception):
            raise piece
        decode: Any = piece if callable(piece) else lambda: Decoded(RowBatch(piece))
        return Fetch(decode, {"piece": self.fetched}, self.nbytes)

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Later:
    """Runs functions only when the test says so, in the order in which it says so."""

    waiting: list[tuple[asyncio.Future[None], Callable[..., Any]]] = field(default_factory=list)

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((turn, function))
        await turn
        return function(*args)


def prefix(*filters: pl.Expr, connected: bool = False) -> Prefix:
    clock = TestClock()
    ctx = OperatorContext("op", 0, 1, 128, clock, SeededRandom(0), MemoryBackend())
    links = [
        Link(name, name, Filter(predicate=predicate).build(ctx, [NUMBERS]), OperatorMetrics(name, 0))
        for name, predicate in ((f"filter-{number}", each) for number, each in enumerate(filters))
    ]
    return Prefix("source", links, connected=lambda _: connected, max_ahead=10**18, clock=clock)


def pump(loop: SteppedLoop, reader: Reader, run: Any, *, depth: int = 3) -> SplitPump:
    async def made() -> SplitPump:
        return SplitPump(Split("split"), reader, prefix(), run, depth=depth, notify=lambda: None)

    made_pump = loop.run_until_complete(made())
    loop.settle()
    return made_pump


def values(piece: Piece) -> list[Any]:
    return [value for _, batch in piece.outputs if isinstance(batch, RowBatch) for value in batch.values]


def counts(operators: Prefix, piece: Piece) -> list[tuple[float, float]]:
    """The records in and out of each operator, once the piece has been counted."""
    add_counted(piece.counted)
    return [(link.metrics.records_in.value, link.metrics.records_out.value) for link in operators.links]


def test_no_more_pieces_are_in_flight_than_allowed(loop: SteppedLoop) -> None:
    reader = Reader([[n] for n in range(10)])
    reading = pump(loop, reader, Later(), depth=3)
    assert reader.fetched == 3
    assert not reading.ready


def test_of_small_pieces_the_next_is_fetched_when_one_is_taken(loop: SteppedLoop) -> None:
    """Records that come meanwhile become one larger piece: a queue of small ones is only latency."""
    reader = Reader([[0], [1], [2]], nbytes=100)
    reading = pump(loop, reader, Later(), depth=3)
    assert (reader.fetched, reading.ready) == (1, True)
    assert values(reading.take()) == [0]
    loop.settle()
    assert reader.fetched == 2


def test_pieces_are_handed_out_in_order_however_they_finish(loop: SteppedLoop) -> None:
    later = Later()
    reading = pump(loop, Reader([[0], [1], [2]]), later)
    for index in (2, 0, 1):
        later.waiting[index][0].set_result(None)
        loop.settle()
        assert reading.ready == (index != 2)
    assert [values(reading.take()) for _ in range(3)] == [[0], [1], [2]]
    loop.settle()
    assert reading.finished
    assert reading.position == {"piece": 3}


def test_a_decode_that_fails_is_raised_in_its_turn(loop: SteppedLoop) -> None:
    def broken() -> Decoded:
        raise SourceError("line 2 is malformed")

    async def at_once(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    reading = pump(loop, Reader([[0], broken, [2]]), at_once)
    assert values(reading.take()) == [0]
    with pytest.raises(SourceError, match="split split: line 2 is malformed"):
        reading.take()


def test_a_fetch_that_fails_is_raised_after_what_came_before(loop: SteppedLoop) -> None:
    async def at_once(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    reading = pump(loop, Reader([[0], SourceError("the disk is gone")]), at_once)
    assert not reading.finished
    assert values(reading.take()) == [0]
    assert reading.ready
    with pytest.raises(SourceError, match="split split: the disk is gone"):
        reading.take()


def test_closing_stops_reading_and_closes_the_reader_once(loop: SteppedLoop) -> None:
    reader = Reader([[n] for n in range(10)])
    reading = pump(loop, reader, Later())
    loop.run_until_complete(reading.close())
    assert (reader.fetched, reader.closed) == (3, 1)


def test_a_piece_says_what_the_pure_operators_took_and_gave() -> None:
    frame = pl.DataFrame({"n": range(10)})
    operators = prefix(pl.col("n") > 3, pl.col("n") < 6)
    piece = operators.run(Split("split"), Fetch(lambda: Decoded(FrameBatch(frame)), {}, nbytes=80))
    assert counts(operators, piece) == [(10, 6), (6, 2)]
    assert (piece.rows, piece.nbytes, piece.bytes_out) == (10, 80, 80)
    ((output, batch),) = piece.outputs
    assert output == operators.end == Input("filter-1")
    assert isinstance(batch, FrameBatch)
    assert batch.frame["n"].to_list() == [4, 5]


def test_a_filter_that_leaves_nothing_ends_the_pass() -> None:
    operators = prefix(pl.col("n") > 99, pl.col("n") < 6)
    piece = operators.run(Split("split"), Fetch(lambda: Decoded(FrameBatch(pl.DataFrame({"n": [1]}))), {}))
    assert piece.outputs == []
    assert counts(operators, piece) == [(1, 0), (0, 0)]


def test_the_largest_time_is_that_of_all_records_also_of_those_filtered_out() -> None:
    batch = RowBatch(["a", "b", "c"], [5, 70, 6])
    piece = prefix().run(Split("split"), Fetch(lambda: Decoded(batch), {}))
    assert piece.max_time == 70


def test_bad_records_know_their_split() -> None:
    bad = RecordError("not a number", record="x")
    piece = prefix().run(Split("part-3"), Fetch(lambda: Decoded(RowBatch([]), bad=[bad]), {}))
    assert str(piece.bad[0]).startswith("split part-3: not a number")


def test_what_a_split_says_itself_is_passed_on() -> None:
    piece = prefix().run(Split("split"), Fetch(lambda: Decoded(RowBatch([]), watermark=7, idle=True), {}))
    assert (piece.watermark, piece.idle, piece.max_time) == (7, True, None)
