"""Bounded channels: order, back-pressure in rows and in bytes, and an inbox that leaves blocked channels alone."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.batch import RowBatch
from streamflow.core.elements import Barrier, EndOfInput, Watermark
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.exchange.channel_memory import ChannelMemory
from streamflow.testing import SteppedLoop, TestClock


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    stepped = SteppedLoop(TestClock())
    yield stepped
    stepped.close_quietly()


def rows(count: int) -> RowBatch:
    return RowBatch(list(range(count)))


async def waiting_for(inbox: Inbox) -> None:
    await inbox.news()


def start(loop: SteppedLoop, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = loop.create_task(work)
    loop.settle()
    return task


async def send_all(channel: Channel, *elements: Any) -> None:
    for element in elements:
        await channel.send(element)


def test_elements_come_in_order(loop: SteppedLoop) -> None:
    channel = Channel()
    sent = [rows(2), Watermark(5), Barrier(1), rows(1), EndOfInput()]
    start(loop, send_all(channel, *sent))
    assert [channel.receive_nowait() for _ in range(5)] == sent
    assert channel.receive_nowait() is None


def test_a_sender_waits_for_room_in_rows(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=10, merges=False)
    sender = start(loop, send_all(channel, rows(6), rows(4), rows(1)))
    assert not sender.done()
    assert channel.rows == 10
    channel.receive_nowait()
    loop.settle()
    assert sender.done()
    assert channel.rows == 5


def test_a_sender_waits_for_room_in_bytes(loop: SteppedLoop) -> None:
    channel = Channel(max_bytes=3 * rows(1).nbytes)
    sender = start(loop, send_all(channel, rows(2), rows(2)))
    assert not sender.done()
    channel.receive_nowait()
    loop.settle()
    assert sender.done()


def test_room_for_less_than_the_batch_is_not_room(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=10, merges=False)
    sender = start(loop, send_all(channel, rows(3), rows(7), rows(5)))
    channel.receive_nowait()
    loop.settle()
    assert not sender.done()
    channel.receive_nowait()
    loop.settle()
    assert sender.done()


def test_a_batch_larger_than_the_channel_goes_in_alone(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=10)
    sender = start(loop, send_all(channel, rows(50), rows(1)))
    assert not sender.done()
    assert channel.rows == 50
    channel.receive_nowait()
    loop.settle()
    assert sender.done()


def test_what_is_no_data_needs_no_room(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=1)
    sender = start(loop, send_all(channel, rows(1), Watermark(1), Barrier(1), EndOfInput()))
    assert sender.done()


def test_small_frames_take_more_than_their_data(loop: SteppedLoop) -> None:
    channel = Channel(max_bytes=64 << 10)
    frame, other = FrameBatch(pl.DataFrame({"k": ["a"], "n": [1]})), FrameBatch(pl.DataFrame({"k": ["a"]}))
    sender = start(loop, send_all(channel, *[frame, other] * 50))
    assert not sender.done()
    assert 10 < channel.rows < 30  # each really takes more than 2 kB


def received_from(channel: Channel) -> list[Any]:
    received: list[Any] = []
    while (element := channel.receive_nowait()) is not None:
        received.append(element)
    return received


def test_small_batches_that_wait_are_read_as_one(loop: SteppedLoop) -> None:
    channel = Channel()
    frames = [FrameBatch(pl.DataFrame({"k": ["a"], "n": [number]})) for number in range(5_000)]
    start(loop, send_all(channel, *frames, Watermark(1), frames[0]))
    received = received_from(channel)
    assert received[-2:] == [Watermark(1), frames[0]]
    data = [batch.frame for batch in received if isinstance(batch, FrameBatch)]
    assert [frame.height for frame in data] == [4_096, 904, 1]
    assert pl.concat(data)["n"].to_list() == [*range(5_000), 0]
    assert channel.rows == 0


def test_watermarks_that_no_record_behind_is_late_for_come_behind_it(loop: SteppedLoop) -> None:
    channel = Channel()
    first, second, third = (RowBatch([number], [10 * number]) for number in (1, 2, 3))
    start(
        loop, send_all(channel, first, Watermark(9), second, Watermark(19), third, Watermark(29), Barrier(1))
    )
    start(loop, send_all(channel, second, Watermark(24), third, Watermark(30), third))
    assert received_from(channel) == [
        RowBatch([1, 2, 3], [10, 20, 30]),
        Watermark(29),
        Barrier(1),
        RowBatch([2, 3], [20, 30]),
        Watermark(30),
        third,
    ]


@given(
    sent=st.lists(
        st.one_of(
            st.builds(
                lambda times, timed, framed: _batch(times, timed=timed, framed=framed),
                st.lists(st.integers(0, 9), max_size=3),
                st.booleans(),
                st.booleans(),
            ),
            st.integers(0, 9).map(Watermark),
            st.just(Barrier(1)),
        ),
        max_size=20,
    )
)
def test_no_record_becomes_late_or_comes_in_time_by_being_read_with_others(sent: list[Any]) -> None:
    loop, channel = SteppedLoop(TestClock()), Channel()
    sent = _rising(sent)
    start(loop, send_all(channel, *sent))
    assert _seen(received_from(channel)) == _seen(sent)
    assert channel.rows == 0
    loop.close_quietly()


def _batch(times: list[int], *, timed: bool, framed: bool) -> Any:
    if not framed:
        return RowBatch(times, times if timed else None)
    frame = pl.DataFrame({"t": times}, schema={"t": pl.Int64})
    return FrameBatch(
        frame.with_columns(pl.col("t").cast(EVENT_TIME_TYPE).alias(EVENT_TIME)) if timed else frame
    )


def _rising(elements: list[Any]) -> list[Any]:
    """The elements with watermarks as senders send them: none is behind the one before."""
    latest = 0
    rising = list[Any]()
    for element in elements:
        if isinstance(element, Watermark):
            latest = max(latest, element.time)
            element = Watermark(latest)
        rising.append(element)
    return rising


def _seen(elements: list[Any]) -> tuple[list[Any], list[int]]:
    """Each record, and whether it is late for the watermarks before it; the watermark at each barrier and the end."""
    records = list[Any]()
    marks, latest = list[int](), -1
    for element in [*elements, Barrier(2)]:
        match element:
            case Watermark(time):
                latest = max(latest, time)
            case Barrier():
                marks.append(latest)
                records.append("barrier")
            case FrameBatch():
                records += [(time, element.timed and time <= latest) for time in element.frame["t"]]
            case _:
                records += [(time, element.times is not None and time <= latest) for time in element.values]
    return records, marks


def test_small_batches_stay_as_they_are_before_functions(loop: SteppedLoop) -> None:
    channel = Channel(merges=False)
    start(loop, send_all(channel, *[RowBatch([number]) for number in range(100)]))
    assert [channel.receive_nowait() for _ in range(100)] == [RowBatch([number]) for number in range(100)]


def test_batches_of_two_kinds_stay_apart(loop: SteppedLoop) -> None:
    channel = Channel()
    timed, untimed = RowBatch([1], [10]), RowBatch([1])
    start(loop, send_all(channel, *[timed, untimed] * 20))
    assert [channel.receive_nowait() for _ in range(40)] == [timed, untimed] * 20


def test_channels_share_what_they_hold(loop: SteppedLoop) -> None:
    memory = ChannelMemory(10 * rows(10).nbytes)
    channels = [Channel(memory=memory) for _ in range(20)]
    senders = [start(loop, send_all(channel, *[rows(10)] * 3)) for channel in channels]
    # The first have all of it; each other has one batch, or its reader would wait for ever.
    assert memory.held == 26 * rows(10).nbytes
    assert [sender.done() for sender in senders] == [True] * 3 + [False] * 17
    assert [channel.rows for channel in channels] == [30] * 3 + [10] * 17
    read = 0
    while any(channel.rows for channel in channels):
        for channel in reversed(channels):
            if (element := channel.receive_nowait()) is not None:
                assert isinstance(element, RowBatch)
                read += len(element)
            loop.settle()
            assert memory.held <= 26 * rows(10).nbytes
    assert read == 600
    assert all(sender.done() for sender in senders)
    assert memory.held == 0


def test_a_sender_is_told_of_room_that_another_channel_makes(loop: SteppedLoop) -> None:
    memory = ChannelMemory(3 * rows(10).nbytes)
    first, second = Channel(memory=memory), Channel(memory=memory)
    start(loop, send_all(first, rows(10), rows(10)))
    sender = start(loop, send_all(second, rows(10), rows(10)))
    assert not sender.done()
    first.receive_nowait()
    loop.settle()
    assert sender.done()
    assert second.rows == 20


def test_watermarks_do_not_pile_up(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=10)
    start(loop, send_all(channel, rows(1), *map(Watermark, range(10_000)), Barrier(1), Watermark(10_001)))
    received = []
    while (element := channel.receive_nowait()) is not None:
        received.append(element)
    assert len(received) < 30
    assert received[-3:] == [Watermark(9_999), Barrier(1), Watermark(10_001)]
    times = [element.time for element in received if isinstance(element, Watermark)]
    assert times == sorted(times)


def test_memory_stays_bounded_however_fast_the_sender(loop: SteppedLoop) -> None:
    channel = Channel(max_rows=10, merges=False)
    start(loop, send_all(channel, *[rows(3)] * 100))
    seen, most = 0, 0
    while channel.rows:
        most = max(most, channel.rows)
        channel.receive_nowait()
        seen += 1
        loop.settle()
    assert (seen, most) == (100, 9)


def test_an_inbox_reads_its_channels_in_turn(loop: SteppedLoop) -> None:
    first, second = Channel(port=0), Channel(port=1)
    inbox = Inbox([first, second])
    start(loop, send_all(first, Watermark(1), Watermark(2)))
    start(loop, send_all(second, Watermark(3), Watermark(4)))
    assert [inbox.receive_nowait() for _ in range(5)] == [
        (0, Watermark(1)),
        (1, Watermark(3)),
        (0, Watermark(2)),
        (1, Watermark(4)),
        None,
    ]


def test_a_blocked_channel_is_left_alone_until_it_is_unblocked(loop: SteppedLoop) -> None:
    first, second = Channel(), Channel()
    inbox = Inbox([first, second])
    start(loop, send_all(first, Watermark(1)))
    start(loop, send_all(second, Watermark(2)))
    inbox.block(0)
    assert inbox.receive_nowait() == (1, Watermark(2))
    assert inbox.receive_nowait() is None
    inbox.unblock_all()
    assert inbox.receive_nowait() == (0, Watermark(1))


def test_a_blocked_channel_still_slows_its_sender_down(loop: SteppedLoop) -> None:
    first, second = Channel(max_rows=2), Channel(max_rows=2)
    inbox = Inbox([first, second])
    inbox.block(0)
    sender = start(loop, send_all(first, rows(2), rows(1)))
    while inbox.receive_nowait() is not None:
        loop.settle()
    assert not sender.done()
    inbox.unblock_all()
    inbox.receive_nowait()
    loop.settle()
    assert sender.done()


def test_a_waiting_inbox_wakes_for_any_channel(loop: SteppedLoop) -> None:
    first, second = Channel(), Channel()
    inbox = Inbox([first, second])
    waiting = start(loop, waiting_for(inbox))
    assert not waiting.done()
    start(loop, send_all(second, Watermark(1)))
    assert waiting.done()
    assert inbox.receive_nowait() == (1, Watermark(1))
