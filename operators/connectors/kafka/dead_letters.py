"""Dead letters as Kafka records: the bad record unchanged, with the reason and its origin in the headers.

Key, value and headers are those of the bad record, so that it can be played back once the cause is removed; if it
had been decoded before it failed, its text takes the value's place. The notes stand in headers of their own, in the
manner of Kafka Connect (KIP-298).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from streamflow.errors import RawRecord
from streamflow.operators.connectors.kafka.clients.port import Headers
from streamflow.operators.connectors.kafka.formats.record_parts import RecordParts, headers_size
from streamflow.operators.contract.error_policy import DeadLetters

__all__ = ["NOTES", "letters"]

NOTES: Final = "streamflow."
"""The beginning of the names of headers about the failure."""

_KEY_BYTES: Final = 16

_Header = tuple[str, bytes | None]


def letters(batch: DeadLetters, job: str, *, most: int, keys_needed: bool = False) -> RecordParts:
    """Dead letters for a topic in which key, value and headers may take `most` bytes: larger parts are cut or left
    out, so that a record that was bad for its size does not fail the job. If `keys_needed`, a record without a key
    gets one of its own, since a compacted topic refuses records without keys.

    Headers, all as text: `streamflow.job`, `.operator`, `.split`, `.offset` (as in error messages), `.reason`; for
    records from Kafka `.origin.topic`, `.origin.partition`, `.origin.offset`, `.origin.timestamp` (milliseconds);
    and `.bytes`, the length of a value that was cut.

    >>> from streamflow.errors import RecordError
    >>> from streamflow.operators.contract.error_policy import dead_letters
    >>> raw = RawRecord("orders", 0, 17, 1_000_000, b"k", b"{", [("trace", b"1")])
    >>> made = letters(dead_letters([RecordError("not JSON", raw=raw)]), "totals", most=1000)
    >>> made.keys, made.values, dict(made.headers[0])["streamflow.origin.offset"]
    ([b'k'], [b'{'], b'17')
    """
    values: list[bytes | None] = []
    keys: list[bytes | None] = []
    headers: list[Headers] = []
    raws: Sequence[RawRecord | None] = batch.raw or [None] * len(batch)
    for row, raw in zip(batch.user_frame().iter_rows(named=True), raws, strict=True):
        notes = _notes(row, raw, job, most // 2)
        room = most - headers_size(notes) - (2 * _KEY_BYTES if keys_needed else 0)
        value = str(row["record"]).encode() if raw is None else raw.value
        key = None if raw is None or len(raw.key or b"") > room // 3 else raw.key
        theirs = () if raw is None or headers_size(raw.headers) > room // 3 else raw.headers
        room -= len(key or b"") + headers_size(theirs)
        if value is not None and len(value) > room:
            length = (NOTES + "bytes", str(len(value)).encode())
            notes.append(length)
            value = value[: max(0, room - headers_size([length]))]
        if key is None and keys_needed:
            key = blake2b(repr((value, notes)).encode(), digest_size=_KEY_BYTES).hexdigest().encode()
        values.append(value)
        keys.append(key)
        headers.append([*theirs, *notes])
    return RecordParts(values, keys, [None] * len(values), headers)


def _notes(row: Mapping[str, Any], raw: RawRecord | None, job: str, most: int) -> list[_Header]:
    """The notes on a failure as headers, the most important first; those beyond `most` bytes are left out."""
    told: dict[str, Any] = {"reason": row["reason"].encode()[: most // 2].decode(errors="ignore")}
    if raw is not None:
        told |= {
            "origin.offset": raw.offset,
            "origin.partition": raw.partition,
            "origin.topic": raw.topic,
            "origin.timestamp": raw.timestamp // 1000,
        }
    told |= {"job": job, **{name: row[name] for name in ("operator", "split", "offset")}}
    notes: list[_Header] = []
    for name, note in told.items():
        header = (NOTES + name, str(note).encode())
        if note is not None and headers_size([*notes, header]) <= most:
            notes.append(header)
    return notes
