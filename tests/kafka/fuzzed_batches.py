"""Batches of records as no client writes them, and what has to come of each: the record that was written, a flaw that
says why not, or damage; never an exception of another kind, never another value. The oracle is `batch_format`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from streamflow.errors import SourceError
from streamflow.observe.registry import NO_METRICS
from streamflow.operators.connectors.kafka.clients.aiokafka.batches import DamagedBatchError
from streamflow.operators.connectors.kafka.clients.aiokafka.chunk import RecordChunk, read_batches
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.formats.codecs import decoder
from streamflow.operators.connectors.kafka.record_batches import INCLUDED, RecordBatches
from streamflow.time.timestamps import EARLIEST, LATEST
from tests.kafka.batch_format import (
    CODECS,
    DamagedError,
    TooLongError,
    Written,
    checksummed,
    decode,
    encode,
    encode_record,
    in_order,
    varint,
)

__all__ = ["check", "check_batch", "fuzzed", "mangled"]

LIMIT = 2_000
_PARTS = [None, b"", b"k", b"value", b"\xff\xfe", b"\x80", "ü€😀".encode(), b"0" * 50, b"a\0b"]
_TIMES = [
    0,
    -1,
    -2,
    -1000,
    1,
    1_795_255_200_000,
    1_795_255_200_000_000_000,
    2**63 - 1,
    -(2**63),
    LATEST // 1000,
]
_NUMBERS = [0, 1, -1, 2, 63, 64, 127, 128, -64, -65, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 10**6]
_HEADER_FIELDS = [(8, 4), (12, 4), (16, 1), (21, 2), (22, 1), (23, 4), (27, 8), (35, 8), (43, 8), (57, 4)]


def check(seed: int) -> str:
    """Make one batch or more out of the seed and hold what comes of it against the oracle; what kind of outcome it
    was. AssertionError where something else comes out."""
    random = Random(seed)
    contents = [fuzzed(random) for _ in range(1 if random.random() < 0.8 else 2)]
    outcome = ""
    for content in contents:
        outcome = check_batch(content, deep=random.random() < 0.05)
    if len(contents) > 1:
        _survives(b"".join(contents))
    return outcome


def fuzzed(random: Random) -> bytes:
    """A batch, or what once was one."""
    base = random.choice([0, 0, 5, 2**40])
    codec = random.choice([*CODECS, "none", "none"])
    records: list[Written | bytes] = []
    for index in range(random.randrange(4)):
        record = _record(random, base + index)
        if random.random() < 0.3:
            made = encode_record(record, 0, base, index, random.choice([0, 0, 0x80, 0xFF]))
            records.append(mangled(made, random) if random.random() < 0.9 else made)
        else:
            records.append(record)
    if random.random() < 0.05:
        records.append(Written(value=b"0" * random.choice([LIMIT - 30, LIMIT, 10 * LIMIT])))
    options = {}
    if random.random() < 0.15:
        options["count"] = random.choice([0, 1, 2, 5, 2**31 - 1])
    if random.random() < 0.15:
        options["last_delta"] = random.choice([0, 1, 9, 2**31 - 1])
    if random.random() < 0.1:
        options["append_time"] = random.choice(_TIMES)
    if random.random() < 0.2:
        options["producer"], options["transactional"] = 7, True
    options.setdefault("last_delta", max(0, len(records) - 1))
    content = encode(records, offset=base, codec=codec, **options)
    match random.randrange(6):
        case 0:
            return mangled(content, random)
        case 1:
            return checksummed(content[:61] + mangled(content[61:], random))
        case 2:
            place, size = random.choice(_HEADER_FIELDS)
            field = random.choice(_NUMBERS) % (1 << (8 * size))
            content = content[:place] + field.to_bytes(size) + content[place + size :]
            return checksummed(content) if place > 8 else content
        case _:
            return content


def _record(random: Random, offset: int) -> Written:
    part: Callable[[Sequence[bytes | None]], bytes | None] = random.choice
    headers = [(part(_PARTS[1:]) or b"", part(_PARTS)) for _ in range(random.choice([0, 0, 0, 1, 3]))]
    place = offset if random.random() < 0.9 else offset + random.choice([-1, 1, 100, -(2**31)])
    return Written(part(_PARTS), part(_PARTS), random.choice(_TIMES), headers, max(0, place))


def mangled(content: bytes, random: Random) -> bytes:
    """Bytes with a few of them turned, cut or put in."""
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        place = random.randrange(len(content) + 1)
        match random.randrange(6):
            case 0:
                content = content[:place] + content[place + random.randrange(4) :]
            case 1:
                content = content[:place] + random.randbytes(random.randrange(1, 4)) + content[place:]
            case 2:
                content = content[:place] + varint(random.choice(_NUMBERS)) + content[place + 1 :]
            case 3:
                content = content[:place] + b"\xff" * random.randrange(1, 12) + content[place:]
            case _:
                if place < len(content):
                    flipped = content[place] ^ (1 << random.randrange(8))
                    content = content[:place] + bytes([flipped]) + content[place + 1 :]
    return content


def check_batch(content: bytes, *, deep: bool = False) -> str:
    """Hold what is read out of one batch against the oracle; what kind of outcome it was."""
    # Behind it there may be the beginning of the next one.
    whole = 12 + max(0, int.from_bytes(content[8:12], signed=True))
    try:
        expected: list[Written | None] | None = decode(content[:whole], LIMIT)
    except TooLongError:
        expected = [None]
    except DamagedError as error:
        expected = [None] if str(error) == "packed" else None
    try:
        batches, reached = read_batches(content, ())
        chunk = None if reached is None else RecordChunk("t-0", batches, 0, reached, LIMIT)
        found = [] if chunk is None else _found(chunk)
    except (DamagedBatchError, SourceError):
        assert expected is None or content[22] & 0x20, f"called damaged: {content!r}"
        return "damaged"
    if chunk is None or content[22] & 0x20:
        assert not found
        return "nothing"
    assert expected is not None, f"read although damaged: {content!r}"
    if expected != [None] and _refused(content[:whole]):
        return "refused by brokers"
    assert len(found) <= max(1, len(expected)), f"{found} for {expected}: {content!r}"
    ordered = _ordered(expected, content)
    for index, record in enumerate(found):
        wanted = expected[index] if index < len(expected) else None
        if record is None:
            assert wanted is None or not ordered, f"lost {wanted}: {content!r}"
        else:
            assert wanted is not None, f"made up {record}: {content!r}"
            assert _same(record, wanted), f"{record} for {wanted}: {content!r}"
    assert len(found) == len(expected) or not ordered, f"{len(found)} of {len(expected)}: {content!r}"
    if deep and expected:
        _decoded(chunk)
    return "flaw" if None in expected else "read"


def _found(chunk: RecordChunk) -> list[Written | None]:
    flaws = chunk.flaws()
    rows = zip(
        chunk.keys(), chunk.values(), chunk.timestamps(), chunk.headers(), chunk.offsets(), strict=True
    )
    return [
        None
        if index in flaws
        else Written(
            key,
            value,
            time // 1000,
            [(name.encode(errors="surrogateescape"), each) for name, each in headers],
            offset,
        )
        for index, (key, value, time, headers, offset) in enumerate(rows)
    ]


def _same(found: Written, wanted: Written) -> bool:
    times = [time for time in (found.timestamp, wanted.timestamp) if EARLIEST <= time * 1000 <= LATEST]
    return found._replace(timestamp=0, headers=()) == wanted._replace(timestamp=0, headers=()) and (
        list(found.headers) == list(wanted.headers) and (not times or found.timestamp == wanted.timestamp)
    )


def _ordered(expected: Sequence[Written | None], content: bytes) -> bool:
    """Whether offsets ascend within the batch, as the format has them."""
    least = int.from_bytes(content[:8])
    end = least + int.from_bytes(content[23:27]) + 1
    for record in expected:
        offset = least if record is None else record.offset
        if not least <= offset < end:
            return False
        least = offset + 1
    return True


def _refused(content: bytes) -> bool:
    """Whether it is compressed and its records are not numbered in their order: brokers take no such batch, as
    test_bad_records has it."""
    full = int.from_bytes(content[57:61]) == int.from_bytes(content[23:27]) + 1
    return bool(content[22] & 7) and full and not in_order(content)


def _decoded(chunk: RecordChunk) -> None:
    """Every record comes out, is a bad one or a tombstone."""
    for format in ("text", "json"):
        dropped = NO_METRICS.counter("dropped", "")
        batches = RecordBatches(
            decoder(format, None),
            include={name: name for name in INCLUDED},
            key_format="text",
            tombstones="keep",
            on_error="skip",
            dropped=dropped,
        )
        made = batches.decode(chunk, TopicPartition("t", 0), None)
        assert len(made.batch) + len(made.bad) == len(chunk)
        for bad in made.bad:
            assert bad.where.split == "t-0"
            assert bad.where.offset


def _survives(content: bytes) -> None:
    """Several batches in one answer: read, or damage."""
    try:
        batches, reached = read_batches(content, [(7, 0)])
        if reached is not None:
            _found(RecordChunk("t-0", batches, 0, reached, LIMIT))
    except (DamagedBatchError, SourceError):
        return
