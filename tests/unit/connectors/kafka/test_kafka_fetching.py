"""The kept part of fetched records, made of message sets as a broker sends them."""

import asyncio

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.chunk import RecordChunk, read_batches
from streamflow.operators.connectors.kafka.clients.aiokafka.fetch_buffer import FetchBuffer
from streamflow.operators.connectors.kafka.clients.port import TopicPartition

PRODUCER = 7
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def batch(first, *values, producer=-1, transactional=False, control=False):
    """The bytes of a batch whose first record has that offset."""
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer, 0, 0, 1 << 20)
    for index, value in enumerate(values):
        key, value = (value, b"") if control else (b"k", value)
        builder.append(index, 1_000 + first + index, key, value, [("h", b"x")])
    content = bytearray(builder.build())
    content[:8] = first.to_bytes(8)
    if control:
        content[22] |= 0x20  # the attributes' low byte
        content[17:21] = calc_crc32c(bytes(content[21:])).to_bytes(4)
    return bytes(content)


def chunk(content, aborted=(), start=0):
    batches, next_offset = read_batches(content, aborted)
    return RecordChunk("t-0", batches, start, next_offset)


def test_columns_of_several_batches():
    read = chunk(batch(5, b"a", None) + batch(7, b"c"), start=5)
    assert read.values() == [b"a", None, b"c"]
    assert read.offsets() == [5, 6, 7]
    assert read.timestamps() == [1_005_000, 1_006_000, 1_007_000]
    assert read.keys() == [b"k"] * 3
    assert read.headers() == [[("h", b"x")]] * 3
    assert (len(read), read.next_offset) == (3, 8)


def test_a_batch_of_which_only_the_end_was_asked_for():
    read = chunk(batch(5, b"a", b"b", b"c"), start=6)
    assert (read.offsets(), read.values(), read.keys()) == ([6, 7], [b"b", b"c"], [b"k"] * 2)


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch():
    content = batch(0, b"a") + batch(1, b"b")
    assert chunk(content[:-1]).next_offset == 1
    assert read_batches(content[:10], ()) == ([], None)


def test_aborted_records_are_left_out_up_to_their_marker():
    content = (
        batch(0, b"aborted", producer=PRODUCER, transactional=True)
        + batch(1, b"plain")
        + batch(2, b"other's", producer=8, transactional=True)
        + batch(3, ABORT, producer=PRODUCER, transactional=True, control=True)
        + batch(4, b"committed", producer=PRODUCER, transactional=True)
        + batch(5, COMMIT, producer=PRODUCER, transactional=True, control=True)
    )
    read = chunk(content, [(PRODUCER, 0)])
    assert read.values() == [b"plain", b"other's", b"committed"]
    assert read.next_offset == 6


def test_a_damaged_batch_is_an_error_that_says_where():
    content = bytearray(batch(5, b"value"))
    content[-1] ^= 1
    with pytest.raises(SourceError, match=r"split t-0, offset 5: a batch of records is damaged"):
        chunk(bytes(content)).values()


def buffer_of(*contents, start=0):
    buffer = FetchBuffer(TopicPartition("t", 0), start)
    for content in contents:
        batches, next_offset = read_batches(content, ())
        assert next_offset is not None
        buffer.put(batches, next_offset)
    return buffer


def taken(buffer, most):
    parts = []
    while (part := buffer.take(most)) is not None:
        parts.append((part.offsets(), part.next_offset))
    return parts


def test_all_that_waits_is_taken_at_once_or_as_much_as_is_asked_for():
    contents = batch(0, b"a", b"b", b"c"), batch(3, b"d"), batch(4, b"e", b"f")
    assert taken(buffer_of(*contents), None) == [([0, 1, 2, 3, 4, 5], 6)]
    assert taken(buffer_of(*contents), 4) == [([0, 1, 2, 3], 4), ([4, 5], 6)]
    assert taken(buffer_of(*contents), 2) == [([0, 1], 2), ([2, 3], 4), ([4, 5], 6)]
    assert taken(buffer_of(*contents, start=1), 1) == [([n], n + 1) for n in range(1, 6)]
    buffer = buffer_of(*contents)
    taken(buffer, 2)
    assert buffer.nbytes == 0


def test_a_position_that_moves_without_records():
    buffer = buffer_of(batch(0, COMMIT, producer=PRODUCER, transactional=True, control=True))
    part = buffer.take(None)
    assert part is not None
    assert (len(part), part.nbytes, part.next_offset) == (0, 0, 1)
    assert buffer.take(None) is None


def test_an_error_comes_after_what_was_fetched_before_it_and_wakes_who_waits():
    async def run():
        buffer = buffer_of(batch(0, b"a"))
        buffer.fail(SourceError("gone"))
        assert len(buffer.take(None) or ()) == 1
        with pytest.raises(SourceError, match="gone"):
            buffer.take(None)
        waiting = FetchBuffer(TopicPartition("t", 0), 0)
        task = asyncio.create_task(waiting.wait(10))
        await asyncio.sleep(0)
        waiting.fail(SourceError("gone"))
        async with asyncio.timeout(1):
            await task

    asyncio.run(run())
