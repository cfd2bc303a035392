"""Published records are the sealed ones, record for record."""

import asyncio

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import DamagedError
from streamflow.operators.connectors.kafka.clients.port import ProducedRecords, TopicPartition
from streamflow.operators.connectors.kafka.outbox import Outbox, Sealed, sealed_digest, unpacked
from streamflow.runtime.ports import Inline

RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=8),
        st.none() | st.integers(0, 2**60),
        st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2),
    ),
    min_size=1,
    max_size=5,
)
BATCHES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 2), RECORDS), max_size=8)


def produced(topic, partition, records, **options):
    values, keys, times, headers = (list(column) for column in zip(*records, strict=True))
    return ProducedRecords(TopicPartition(topic, partition), values, keys, times, headers, **options)


def seal(*batches, epoch=1, chunk_bytes=1 << 20, subtask=0):
    async def run():
        outbox = Outbox(subtask, Inline(), chunk_bytes=chunk_bytes)
        for batch in batches:
            await outbox.add(batch)
        return await outbox.seal(epoch)

    return asyncio.run(run())


def by_partition(batches):
    found = {}
    for batch in batches:
        rows = zip(batch.values, batch.keys, batch.timestamps, map(tuple, batch.headers), strict=True)
        found.setdefault(batch.partition, []).extend(rows)
    return found


@given(BATCHES, st.sampled_from([1, 60, 1 << 20]))
def test_every_record_comes_back_in_its_partitions_order(batches, chunk_bytes):
    given_ = [produced(*batch) for batch in batches]
    committable = seal(*given_, chunk_bytes=chunk_bytes)
    # As it comes out of a checkpoint.
    sealed = Sealed.of(msgpack.unpackb(msgpack.packb(committable)))
    assert by_partition(r for chunk in sealed.chunks for r in unpacked(chunk)) == by_partition(given_)
    assert sealed.records == sum(len(batch.values) for batch in given_)


def test_the_next_epoch_begins_empty():
    async def run():
        outbox = Outbox(0, Inline())
        await outbox.add(produced("t", 0, [(b"v", None, None, [])]))
        first = await outbox.seal(1)
        return first, await outbox.seal(2), outbox.nbytes

    first, second, nbytes = asyncio.run(run())
    assert (first["records"], second["records"], second["chunks"], nbytes) == (1, 0, [], 0)


def test_a_topics_limit_stays_with_its_records():
    committable = seal(produced("t", 0, [(b"v", None, None, [])], batch_bytes=500))
    assert unpacked(committable["chunks"][0])[0].batch_bytes == 500


@given(st.data())
def test_any_flipped_bit_is_found(data):
    chunk = bytearray(seal(produced("t", 0, [(b"value", b"key", 1, [])]))["chunks"][0])
    chunk[data.draw(st.integers(0, len(chunk) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedError):
        unpacked(bytes(chunk))


def test_a_chunk_that_is_missing_is_found():
    record = produced("t", 0, [(b"value", b"key", 1, [])])
    committable = seal(record, record, chunk_bytes=1)
    assert len(committable["chunks"]) == 2
    with pytest.raises(DamagedError):
        Sealed.of({**committable, "chunks": committable["chunks"][:1]})


def test_another_format_is_refused():
    with pytest.raises(DamagedError, match="format 2"):
        Sealed.of({**seal(), "format": 2})


def test_one_digest_for_all_outboxes_of_an_epoch():
    one, other = (Sealed.of(seal(produced("t", 0, [(value, None, 1, [])]))) for value in (b"a", b"b"))
    assert sealed_digest([one, other]) != sealed_digest([one, one])
    assert sealed_digest([one]) == sealed_digest([one])
