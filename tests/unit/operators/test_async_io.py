"""`MapAsync` under a small driver that does what the task loop does: elements in, a future for each request, elements
out; requests go on while watermarks, barriers and other batches come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_group_range
from streamflow.core.schema import OBJECTS
from streamflow.core.serde import pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError, StateError
from streamflow.operators.contract.operator import (
    ERRORS,
    AsyncOperator,
    ErrorPolicy,
    OperatorContext,
    StatePart,
)
from streamflow.operators.requests.map_async import MapAsync, backoff
from streamflow.state.backends.memory import MemoryBackend
from streamflow.time.clock import SeededRandom, SystemClock

INPUT = StreamType(OBJECTS, timed=True)
GROUPS = 128


@dataclass
class Service:
    """Answers requests when it is told to."""

    waiting: dict[Any, asyncio.Future[Any]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    async def ask(self, value: Any) -> Any:
        self.asked.append(value)
        self.waiting[value] = asyncio.get_running_loop().create_future()
        return await self.waiting[value]

    async def answer(self, *values: Any) -> None:
        for value in values:
            self.waiting.pop(value).set_result(f"{value}!")
        await turns()


async def turns() -> None:
    """Let everything happen that can."""
    for _ in range(5):
        await asyncio.sleep(0)


@dataclass
class Driver:
    """The task loop, a step at a time."""

    function: Callable[[Any], Coroutine[Any, Any, Any]]
    capacity: int = 100
    ordered: bool = True
    on_error: ErrorPolicy = "fail"
    subtask: int = 0
    parallelism: int = 1
    out: list[Any] = field(default_factory=list)
    """Values and watermarks (as `W5`) in the order in which they came out."""
    times: list[int | None] = field(default_factory=list)
    dead: int = 0

    def __post_init__(self) -> None:
        spec = MapAsync(
            self.function, OBJECTS, self.capacity, self.ordered, 10_000_000, backoff(0), self.on_error
        )
        operator = spec.build(self.context, [INPUT])
        assert isinstance(operator, AsyncOperator)
        self.operator: AsyncOperator = operator

    @property
    def context(self) -> OperatorContext:
        return OperatorContext(
            operator_id="map-async-1",
            subtask=self.subtask,
            parallelism=self.parallelism,
            max_parallelism=GROUPS,
            clock=SystemClock(),
            random=SeededRandom(1),
            state=MemoryBackend(),
        )

    # The collector.

    def emit(self, batch: AnyBatch) -> None:
        assert isinstance(batch, RowBatch)
        self.out.extend(batch.values)
        self.times.extend(batch.times or [None] * len(batch))

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        assert output == ERRORS
        assert isinstance(batch, FrameBatch)
        self.dead += len(batch)

    def connected(self, output: str) -> bool:
        return True

    # Elements.

    def batch(self, *values: Any, times: Sequence[int] | None = None) -> None:
        assert self.operator.accepting
        self.operator.process_batch(RowBatch(list(values), None if times is None else list(times)), 0, self)

    def watermark(self, time: int) -> None:
        self._collect()
        passed = self.operator.on_watermark(time, self)
        if passed is not None:
            self.out.append(f"W{passed}")

    def collect(self) -> list[Any]:
        """Collects what there is; all that has come out since it was last asked."""
        self._collect()
        out, self.out = self.out, []
        return out

    def _collect(self) -> None:
        self.operator.collect(self)
        while (mark := self.operator.output_watermark) is not None:
            self.out.append(f"W{mark}")
            self.operator.collect(self)

    def snapshot(self) -> StatePart:
        groups = key_group_range(self.subtask, self.parallelism, GROUPS)
        return StatePart(groups, unpack(pack(dict(self.operator.snapshot().values))), {})

    async def end(self) -> list[Any]:
        out: list[Any] = self.collect()
        while (pending := self.operator.pending) is not None:
            await pending
            out += self.collect()
        return out


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    def run(**arguments: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**arguments), 20))

    run.__name__ = test.__name__
    return run


@on_loop
async def test_requests_of_several_batches_are_under_way_at_once() -> None:
    service = Service()
    head = Driver(service.ask)
    head.batch("a", "b")
    head.batch("c")
    await turns()
    assert service.asked == ["a", "b", "c"]
    await service.answer("a")
    assert head.collect() == ["a!"]
    await service.answer("b", "c")
    assert head.collect() == ["b!", "c!"]
    assert head.operator.pending is None


@on_loop
async def test_ordered_results_wait_for_their_turn() -> None:
    service = Service()
    head = Driver(service.ask)
    head.batch("a", times=[1])
    head.batch("b", "c", times=[2, 3])
    await turns()
    await service.answer("c")
    assert head.collect() == []
    await service.answer("a")
    assert head.collect() == ["a!"]
    await service.answer("b")
    assert head.collect() == ["b!", "c!"]
    assert head.times == [1, 2, 3]


@on_loop
async def test_unordered_results_come_as_they_are_answered_but_not_past_a_watermark() -> None:
    service = Service()
    head = Driver(service.ask, ordered=False)
    head.batch("a", "b", "c")
    head.watermark(5)
    head.batch("d")
    await turns()
    await service.answer("d")
    await service.answer("c")
    await service.answer("a")
    assert head.collect() == ["c!", "a!"]
    await service.answer("b")
    assert head.collect() == ["b!", "W5", "d!"]


@pytest.mark.parametrize("ordered", [True, False])
def test_watermarks_pass_at_once_where_nothing_is_under_way_and_become_one_where_they_wait(
    ordered: bool,
) -> None:
    async def run() -> None:
        service = Service()
        head = Driver(service.ask, ordered=ordered)
        head.watermark(1)
        assert head.out == ["W1"]
        assert head.collect() == ["W1"]
        head.batch("a")
        await turns()
        head.watermark(2)
        head.watermark(3)
        assert head.collect() == []
        await service.answer("a")
        assert head.collect() == ["a!", "W3"]
        assert head.operator.pending is None

    asyncio.run(run())


@on_loop
async def test_it_takes_no_more_than_capacity_at_once_and_says_when_there_is_room() -> None:
    service = Service()
    head = Driver(service.ask, capacity=2)
    head.batch("a", "b", "c")
    await turns()
    assert service.asked == ["a", "b"]
    assert not head.operator.accepting
    room = head.operator.pending
    assert room is not None
    await service.answer("b")
    assert room.done()
    assert head.operator.accepting
    assert head.collect() == []
    await turns()
    assert service.asked == ["a", "b", "c"]


@on_loop
async def test_results_that_wait_for_their_turn_take_room() -> None:
    service = Service()
    head = Driver(service.ask, capacity=1)
    head.batch(0)
    slow = Driver(service.ask, capacity=2)
    slow.batch(*range(100, 200))
    await turns()
    for number in range(101, 200):
        if number not in service.waiting:
            break
        await service.answer(number)
    # Two at once, ten times as many asked and not put out.
    assert max(service.asked) == 119


@on_loop
async def test_pending_may_be_cancelled_and_is_done_at_once_where_there_is_something() -> None:
    service = Service()
    head = Driver(service.ask)
    head.batch("a")
    first = head.operator.pending
    assert first is not None
    first.cancel()
    await turns()
    await service.answer("a")
    again = head.operator.pending
    assert again is not None
    assert again.done()


@on_loop
async def test_a_snapshot_has_what_was_not_put_out_and_a_restored_one_asks_again() -> None:
    service = Service()
    head = Driver(service.ask, capacity=2)
    head.batch("a", "b", "c", "d", times=[1, 2, 3, 4])
    await turns()
    await service.answer("a")
    head.collect()
    await turns()
    await service.answer("c")
    head.watermark(9)
    part = head.snapshot()
    head.operator.close()

    again = Service()
    restored = Driver(again.ask, capacity=2)
    restored.operator.restore([part])
    assert restored.collect() == []
    await turns()
    assert again.asked == ["b", "c"]
    await again.answer("b", "c")
    restored.collect()
    await turns()
    restored.out.clear()
    await again.answer("d")
    assert await restored.end() == ["d!", "W9"]
    assert restored.times == [2, 3, 4]


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 5), (5, 2), (4, 4)])
def test_at_another_parallelism_every_request_goes_on_once(before: int, after: int) -> None:
    async def run() -> None:
        service = Service()
        parts = []
        for subtask in range(before):
            head = Driver(service.ask, subtask=subtask, parallelism=before)
            head.batch(f"{subtask}-x", f"{subtask}-y")
            head.watermark(subtask)
            parts.append(head.snapshot())
            head.operator.close()
        again = Service()
        for subtask in range(after):
            groups = key_group_range(subtask, after, GROUPS)
            met = [p for p in parts if p.groups.start < groups.stop and groups.start < p.groups.stop]
            head = Driver(again.ask, subtask=subtask, parallelism=after)
            head.operator.restore(met)
            head.collect()
            await turns()
        assert sorted(again.asked) == sorted(f"{subtask}-{row}" for subtask in range(before) for row in "xy")

    asyncio.run(run())


@on_loop
async def test_what_a_function_does_to_its_row_is_not_asked_again() -> None:
    seen: list[dict[str, int]] = []

    async def count(row: dict[str, int]) -> int:
        seen.append(dict(row))
        row["n"] += 1
        await asyncio.Event().wait()
        return 0

    head = Driver(count)
    head.batch({"n": 1})
    await turns()
    restored = Driver(count)
    restored.operator.restore([head.snapshot()])
    restored.collect()
    await turns()
    assert seen == [{"n": 1}, {"n": 1}]


@on_loop
async def test_rows_that_cannot_be_stored_are_named() -> None:
    head = Driver(Service().ask)
    head.batch(lambda: None)
    with pytest.raises(
        StateError, match=r"a request under way cannot be stored: .*; give map_async rows of plain"
    ):
        head.snapshot()


@pytest.mark.parametrize("ordered", [True, False])
def test_errors_follow_the_policy(ordered: bool) -> None:
    async def halves(value: int) -> int:
        await asyncio.sleep(0)
        if value == 3:
            raise asyncio.CancelledError
        return 12 // value

    async def run() -> None:
        head = Driver(halves, ordered=ordered, on_error="dead_letter")
        head.batch(1, 0, 2, 3)
        assert sorted(await head.end()) == [6, 12]
        assert head.dead == 2
        failing = Driver(halves, ordered=ordered)
        failing.batch(0)
        with pytest.raises(RecordError, match="ZeroDivisionError"):
            await failing.end()

    asyncio.run(run())


@on_loop
async def test_what_no_except_exception_catches_is_the_records_error_too() -> None:
    async def leave(value: Any) -> Any:
        raise SystemExit(3)

    head = Driver(leave)
    head.batch(1)
    with pytest.raises(RecordError, match="SystemExit: 3"):
        await head.end()


@on_loop
async def test_closing_ends_what_is_under_way() -> None:
    ended: list[str] = []

    async def ask(value: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(value)
        return value

    head = Driver(ask)
    head.batch("a", "b")
    await turns()
    head.operator.close()
    await turns()
    assert sorted(ended) == ["a", "b"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.integers(1, 4)),
        st.tuples(st.just("mark"), st.just(0)),
        st.tuples(st.just("answer"), st.integers(0, 9)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("collect"), st.just(0)),
    ),
    max_size=25,
)


@given(steps=STEPS, ordered=st.booleans(), capacity=st.integers(1, 5))
def test_whatever_happens_each_input_comes_out_once_between_its_watermarks(
    steps: list[tuple[str, int]], ordered: bool, capacity: int
) -> None:
    async def run() -> None:
        service = Service()
        head = Driver(service.ask, capacity=capacity, ordered=ordered)
        expected: list[Any] = []
        out: list[Any] = []
        for number, (what, which) in enumerate(steps):
            if what == "batch":
                while not head.operator.accepting:
                    await service.answer(*list(service.waiting)[:1])
                    out += head.collect()
                    await turns()
                values = [f"{number}.{each}" for each in range(which)]
                head.batch(*values)
                expected += [f"{value}!" for value in values]
                await turns()
            elif what == "mark":
                head.watermark(number)
                expected.append(f"W{number}")
            elif what == "answer" and service.waiting:
                await service.answer(list(service.waiting)[which % len(service.waiting)])
            elif what == "collect":
                out += head.collect()
                await turns()
            elif what == "crash":
                out += head.collect()
                part = head.snapshot()
                head.operator.close()
                await turns()
                service = Service()
                head = Driver(service.ask, capacity=capacity, ordered=ordered)
                head.operator.restore([part])
        out += head.collect()
        await turns()
        while head.operator.pending is not None:
            await service.answer(*list(service.waiting))
            out += head.collect()
            await turns()
        assert head.operator.accepting
        marks = [each for each in expected if each.startswith("W")]
        mine = [each for each in out if each.startswith("W")]
        # Watermarks that wait with nothing between them become one.
        assert [each for each in marks if each in mine] == mine
        assert mine[-1:] == marks[-1:]
        values = [each for each in out if each.endswith("!")]
        assert sorted(values) == sorted(each for each in expected if each.endswith("!"))
        if ordered:
            assert values == [each for each in expected if each.endswith("!")]
        for mark in mine:
            behind = expected[expected.index(mark) :]
            assert not set(out[: out.index(mark)]) & set(behind)

    asyncio.run(run())
