"""The outbox: an epoch's records for Kafka as bytes that go into the checkpoint and are published from it.

Records are gathered by partition and closed into chunks of about a megabyte: msgpack columns, compressed, each with
its own digest, so that the published bytes are the sealed ones, whatever disk or store they came through. The chunk
names topic and partition: its publisher needs neither the sink nor its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]

from streamflow.errors import DamagedError
from streamflow.operators.connectors.kafka.clients.port import (
    BATCH_BYTES,
    Headers,
    ProducedRecords,
    TopicPartition,
)
from streamflow.operators.contract.sink import Committable

if TYPE_CHECKING:
    from zstandard import ZstdCompressor, ZstdDecompressor

__all__ = ["Outbox", "Sealed", "sealed_digest", "unpacked"]

_msgpack: Any = msgpack
_FORMAT: Final = 1
_CHUNK_BYTES: Final = 1 << 20
_DIGEST_BYTES: Final = 16
_RECORD_BYTES: Final = 20
"""The assumed bytes of a record beside key and value."""
_NAMED: Final = 4


@dataclass(slots=True)
class _Column:
    """Records of one partition that are not in a chunk yet."""

    values: list[bytes | None] = field(default_factory=list[bytes | None])
    keys: list[bytes | None] = field(default_factory=list[bytes | None])
    timestamps: list[int | None] = field(default_factory=list[int | None])
    headers: list[Headers] = field(default_factory=list[Headers])
    batch_bytes: int = BATCH_BYTES


class Outbox:
    """One subtask's records of one epoch at a time. `run` packs a chunk off the event loop: `await run(function,
    *arguments)`."""

    def __init__(self, subtask: int, run: Callable[..., Any], *, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self._subtask = subtask
        self._run = run
        self._chunk_bytes = chunk_bytes
        self._open: dict[TopicPartition, _Column] = {}
        self._open_bytes = 0
        self._chunks: list[bytes] = []
        self._packed_bytes = 0
        self.records = 0

    @property
    def nbytes(self) -> int:
        """The bytes held in memory."""
        return self._open_bytes + self._packed_bytes

    async def add(self, records: ProducedRecords) -> None:
        column = self._open.get(records.partition)
        if column is None:
            column = self._open[records.partition] = _Column()
        column.values += records.values
        column.keys += records.keys
        column.timestamps += records.timestamps
        column.headers += records.headers
        column.batch_bytes = min(column.batch_bytes, records.batch_bytes)
        self.records += len(records.values)
        self._open_bytes += _size(records)
        if self._open_bytes >= self._chunk_bytes:
            await self._pack()

    async def seal(self, epoch: int) -> Committable:
        """Seals the records added since the last time for an epoch; the outbox begins again."""
        if self._open:
            await self._pack()
        chunks, self._chunks = self._chunks, []
        committable = {
            "format": _FORMAT,
            "epoch": epoch,
            "subtask": self._subtask,
            "records": self.records,
            "bytes": self._packed_bytes,
            "digest": _digest(chunk[:_DIGEST_BYTES] for chunk in chunks),
            "chunks": chunks,
        }
        self.records = self._packed_bytes = 0
        return committable

    async def _pack(self) -> None:
        opened, self._open = self._open, {}
        self._open_bytes = 0
        chunk = await self._run(_packed, opened)
        self._chunks.append(chunk)
        self._packed_bytes += len(chunk)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A committable from a checkpoint. Raises DamagedError for bytes that no outbox of this version wrote."""

    epoch: int
    subtask: int
    records: int
    digest: bytes
    chunks: Sequence[bytes]

    @classmethod
    def of(cls, committable: Committable) -> Sealed:
        if committable.get("format") != _FORMAT:
            raise DamagedError(
                f"an outbox of format {committable.get('format')!r}",
                hint="it was written by another version of streamflow: publish it with that one",
            )
        chunks: list[bytes] = committable["chunks"]
        if _digest(chunk[:_DIGEST_BYTES] for chunk in chunks) != committable["digest"]:
            raise DamagedError("the outbox of a checkpoint differs from the sealed one")
        return cls(
            committable["epoch"],
            committable["subtask"],
            committable["records"],
            committable["digest"],
            chunks,
        )


def sealed_digest(sealed: Sequence[Sealed]) -> str:
    """One digest for all of an epoch's outboxes, which the marker names."""
    return _digest(one.digest for one in sealed).hex()


def unpacked(chunk: bytes) -> list[ProducedRecords]:
    """A chunk's records by partition. Raises DamagedError if they are not the packed ones."""
    digest, packed = chunk[:_DIGEST_BYTES], chunk[_DIGEST_BYTES:]
    if blake2b(packed, digest_size=_DIGEST_BYTES).digest() != digest:
        raise DamagedError("a part of the outbox is damaged", hint="an older checkpoint may be intact")
    plain = _decompressor().decompress(packed)
    columns: list[list[Any]] = _msgpack.unpackb(plain)
    return [
        ProducedRecords(
            TopicPartition(topic, partition), values, keys, times, _named(headers, len(values)), batch_bytes
        )
        for topic, partition, values, keys, times, headers, batch_bytes in columns
    ]


def _packed(opened: Mapping[TopicPartition, _Column]) -> bytes:
    columns = [
        # Hardly any record has headers: a list of empty ones would be read and written for each.
        [
            *partition,
            column.values,
            column.keys,
            column.timestamps,
            [[list(header) for header in headers] for headers in column.headers]
            if any(column.headers)
            else None,
            column.batch_bytes,
        ]
        for partition, column in sorted(opened.items())
    ]
    packed = _compressor().compress(_msgpack.packb(columns))
    return blake2b(packed, digest_size=_DIGEST_BYTES).digest() + packed


def _named(headers: list[list[list[Any]]] | None, count: int) -> Sequence[Headers]:
    if headers is None:
        return [()] * count
    return [tuple((name, value) for name, value in each) for each in headers]


def _size(records: ProducedRecords) -> int:
    size = _RECORD_BYTES * len(records.values)
    size += sum(map(len, filter(None, records.values))) + sum(map(len, filter(None, records.keys)))
    for headers in records.headers:
        for name, value in headers:
            size += len(name) + len(value or b"") + _NAMED
    return size


def _digest(parts: Iterator[bytes]) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _compressor() -> ZstdCompressor:
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=1)


def _decompressor() -> ZstdDecompressor:
    from zstandard import ZstdDecompressor

    return ZstdDecompressor()
