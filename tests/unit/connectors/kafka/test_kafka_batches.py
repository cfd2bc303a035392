"""Batches as brokers keep them and as no honest producer writes them: each record comes as it is, or is a flaw."""

import cramjam
import pytest

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.batches import DamagedBatchError
from streamflow.operators.connectors.kafka.clients.aiokafka.chunk import RecordChunk, read_batches
from tests.kafka.batch_format import CODECS, Written, checksummed, encode, encode_record, varint

ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"
PRODUCER = 7


def chunk(content, aborted=(), start=0, **options):
    batches, next_offset = read_batches(content, aborted)
    return RecordChunk("t-0", batches, start, next_offset, **options)


def marker(offset, kind: bytes | None = ABORT, **options):
    records = [] if kind is None else [Written(kind, b"\0\0\0\0\0\0")]
    return encode(
        records, offset=offset, producer=PRODUCER, transactional=True, control=True, last_delta=0, **options
    )


def transaction(offset, *values):
    return encode(
        [Written(value=value) for value in values], offset=offset, producer=PRODUCER, transactional=True
    )


def test_an_empty_control_batch_is_read_over():
    content = encode([Written(value=b"a")]) + marker(1, None) + encode([Written(value=b"b")], offset=2)
    read = chunk(content)
    assert (read.values(), read.offsets(), read.next_offset) == ([b"a", b"b"], [0, 2], 3)
    alone = chunk(marker(0, None))
    assert (alone.values(), alone.nbytes, alone.next_offset) == ([], 0, 1)


def test_an_empty_control_batch_ends_no_transaction():
    content = transaction(0, b"never") + marker(1, None) + transaction(2, b"never") + marker(3)
    content += transaction(4, b"c")
    assert chunk(content, [(PRODUCER, 0)]).values() == [b"c"]


def test_a_batch_of_which_everything_was_compacted_away_moves_the_position():
    for codec in CODECS:
        empty = encode([], offset=3, last_delta=9, codec="none")
        empty = checksummed(empty[:22] + bytes([CODECS[codec]]) + empty[23:])
        read = chunk(encode([Written(value=b"a")]) + empty)
        assert (read.values(), read.next_offset, read.flaws()) == ([b"a"], 13, {})


def test_offsets_that_were_compacted_away_at_both_ends_and_between():
    kept = [Written(value=b"a", offset=12), Written(value=b"b", offset=15)]
    content = encode(kept, offset=10, last_delta=9)
    read = chunk(content, start=10)
    assert (read.values(), read.offsets(), read.next_offset) == ([b"a", b"b"], [12, 15], 20)
    assert chunk(content, start=13).values() == [b"b"]
    assert chunk(content, start=16).values() == []


def test_transactions_that_were_aborted_one_after_the_other_and_interleaved():
    other = encode([Written(value=b"other")], offset=1, producer=8, transactional=True)
    content = transaction(0, b"never") + other + marker(2) + transaction(3, b"never") + marker(4)
    content += transaction(5, b"yes") + marker(6, COMMIT)
    assert chunk(content, [(PRODUCER, 3), (PRODUCER, 0)]).values() == [b"other", b"yes"]
    assert chunk(content, None).values() == [b"never", b"other", b"never", b"yes"]


@pytest.mark.parametrize("flip", [20, 22, 24, 40, 61, 70])
def test_what_is_left_out_is_checked_too(flip):
    for batch in (transaction(0, b"never"), marker(0), marker(0, None)):
        content = bytearray(batch)
        if flip >= len(content):
            continue
        content[flip] ^= 1
        with pytest.raises((DamagedBatchError, SourceError)):
            chunk(bytes(content), [(PRODUCER, 0)]).values()


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_whose_name_is_no_text_leaves_the_others_alone(codec):
    bad = Written(value=b"b", headers=[(b"ok", None), (b"\xff\xfe", b"1")])
    records = [Written(value=b"a", headers=[(b"x", b"y")]), bad, Written(key=b"k", value=None)]
    read = chunk(encode(records, codec=codec, offset=4), start=4)
    assert (read.values(), read.keys(), read.offsets()) == ([b"a", b"b", None], [None, None, b"k"], [4, 5, 6])
    assert read.headers()[1] == [("ok", None), ("\udcff\udcfe", b"1")]
    assert read.flaws() == {}


def test_a_record_that_makes_no_sense_is_one_flaw():
    good = encode_record(Written(value=b"good"), 0, 0, 0)
    nonsense = varint(4) + b"\0\0\2\x7f"
    later = encode_record(Written(value=b"later"), 0, 0, 2)
    read = chunk(encode([good, nonsense, later], codec="lz4"))
    assert read.values() == [b"good", None, b"later"]
    assert list(read.flaws()) == [1]
    assert read.offsets() == [0, 1, 2]


@pytest.mark.parametrize(
    "record",
    [
        Written("ü€😀".encode(), b"k"),
        Written(b"", b"value", headers=[(b"", b"")]),
        Written(b"\xff\xfe", b"k", timestamp=-2),
    ],
    ids=["key like a long number", "header like an empty value", "key like an offset"],
)
@pytest.mark.parametrize("codec", CODECS)
def test_attributes_that_nobody_uses_move_no_part_of_a_record(record, codec):
    for before in range(3):
        content = [Written(value=b"a")] * before + [encode_record(record, 0, 0, before, 0x80)]
        read = chunk(encode(content, codec=codec, last_delta=9))
        assert (read.offsets(), read.flaws()) == (list(range(before + 1)), {})
        found = (read.keys()[-1], read.values()[-1], read.milliseconds()[-1])
        assert found == (record.key, record.value, record.timestamp)
        headers = [(name.encode(), value) for name, value in read.headers()[-1]]
        assert headers == list(record.headers)


def test_a_record_with_odd_attributes_that_makes_no_sense_is_one_flaw():
    outside = encode_record(Written(b"", b"value", headers=[(b"", b"")]), 0, 0, 7, 0x80)
    read = chunk(encode([outside, Written(value=b"a")]))
    assert (read.values(), list(read.flaws())) == ([None, b"a"], [0])


def test_records_whose_offsets_do_not_ascend_are_flaws():
    read = chunk(encode([Written(value=b"a", offset=offset) for offset in (0, 2, 1, 3)]))
    assert (read.offsets(), list(read.flaws())) == ([0, 2, 3], [2])


def test_batches_before_what_is_no_batch_are_read_first():
    for damage in (b"\xff" * 16, b"\0" * 61, marker(1)[:-1] + b"\1"):
        batches, reached = read_batches(encode([Written(value=b"a")]) + damage, ())
        assert reached == 1
        assert RecordChunk("t-0", batches, 0, reached).values() == [b"a"]
        with pytest.raises(DamagedBatchError):
            read_batches(damage, ())


def test_records_that_cannot_be_found_are_one_flaw():
    good = encode_record(Written(value=b"good"), 0, 0, 0)
    read = chunk(encode([good, b"\xff\xff\xff\xff\x0f", b""]))
    assert read.values() == [b"good", None]
    assert read.flaws() == {
        1: "2 records of a batch cannot be read: a record takes -2147483648 bytes, and 0 are left"
    }


def bomb(codec, size):
    plain = encode_record(Written(value=b"0" * size), 0, 0, 0)
    return encode([plain], codec=codec)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "none"])
def test_a_batch_is_not_unpacked_beyond_its_limit(codec):
    content = encode([Written(value=b"a")]) + bomb(codec, 1 << 20).replace(b"\0" * 8, (1).to_bytes(8), 1)
    read = chunk(content, unpacked_bytes=1 << 19)
    assert read.values() == [b"a", None]
    assert read.flaws() == {
        1: f"the records of offsets 1 to 1, compressed with {codec}, unpack to more than max_batch_bytes=524288"
    }
    assert chunk(content, unpacked_bytes=2 << 20).values() == [b"a", b"0" * (1 << 20)]


def test_each_part_of_a_batch_that_cannot_be_unpacked_says_so():
    content = checksummed(encode([Written()] * 10, codec="zstd")[:-3])
    for start, stop in [(0, 4), (4, 10)]:
        batches, _ = read_batches(content, ())
        part = RecordChunk("t-0", batches, start, stop)
        assert (part.values(), part.offsets()) == ([None], [start])
        assert f"offsets {start} to {stop - 1}" in part.flaws()[0]


def test_snappy_in_the_blocks_of_the_java_library():
    plain = encode_record(Written(value=b"v" * 100), 0, 0, 0)
    blocks = b"".join(
        len(block).to_bytes(4) + block
        for block in (bytes(cramjam.snappy.compress_raw(part)) for part in (plain[:50], plain[50:]))
    )
    content = encode([plain])[:61] + b"\x82SNAPPY\0" + bytes([0, 0, 0, 1, 0, 0, 0, 1]) + blocks
    content = checksummed(content[:22] + bytes([CODECS["snappy"]]) + content[23:])
    assert chunk(content).values() == [b"v" * 100]
    [flaw] = chunk(checksummed(content[:-1])).flaws().values()
    assert "cannot be unpacked: a block is cut off" in flaw


@pytest.mark.parametrize("first", [2**63 - 1, -(2**63), 1_795_255_200_000_000_000, -1])
def test_timestamps_of_any_size(first):
    later = Written(value=b"b", timestamp=first)
    read = chunk(encode([later, later]))
    assert read.timestamps() == [first * 1000] * 2


def test_the_time_of_the_log_is_that_of_every_record():
    content = encode([Written(timestamp=5), Written(timestamp=6)], append_time=1_000)
    assert chunk(content).timestamps() == [1_000_000] * 2


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 61,
        b"\xff" * 100,
        encode([Written()], last_delta=-5),
        encode([Written()], count=-1),
        encode([Written()])[:16] + b"\3" + encode([Written()])[17:],
    ],
)
def test_what_is_no_batch_is_damage_and_never_waited_for(content):
    with pytest.raises(DamagedBatchError):
        read_batches(content, ())
