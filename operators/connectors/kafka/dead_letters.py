"""Dead letters as Kafka records: the bad record as it was, with the reason and its origin in the headers.

Key, value and headers are those of the record that could not be used, so that it can be played back once the cause is
removed; where it had been decoded before it failed, its text takes the value's place. The notes stand in headers of
their own, in the manner of Kafka Connect (KIP-298).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamflow.errors import RawRecord
from streamflow.operators.connectors.kafka.client import Headers
from streamflow.operators.connectors.kafka.record_parts import RecordParts
from streamflow.operators.guard import DeadLetters

__all__ = ["NOTES", "letters"]

NOTES: Final = "streamflow."
"""What the names of the headers begin with that tell of the failure."""

_HEADER: Final = 6


def letters(batch: DeadLetters, job: str, *, most: int) -> RecordParts:
    """Dead letters as they are written to a topic that takes records of `most` bytes: what is larger is cut, so that a
    record that was bad for its size does not fail the job.

    Headers, all as text: `streamflow.job`, `.operator`, `.split`, `.offset` (as in error messages), `.reason`; for
    records from Kafka `.origin.topic`, `.origin.partition`, `.origin.offset`, `.origin.timestamp` (milliseconds); and
    `.bytes`, the length of the value where that was cut.

    >>> from streamflow.errors import RecordError
    >>> from streamflow.operators.guard import dead_letters
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
        notes = {"job": job, **{name: row[name] for name in ("operator", "split", "offset", "reason")}}
        if raw is not None:
            notes |= {
                "origin.topic": raw.topic,
                "origin.partition": raw.partition,
                "origin.offset": raw.offset,
                "origin.timestamp": raw.timestamp // 1000,
            }
        value = str(row["record"]).encode() if raw is None else raw.value
        key = None if raw is None or len(raw.key or b"") > most // 4 else raw.key
        theirs = () if raw is None or _size(raw.headers) > most // 4 else raw.headers
        if value is not None and len(value) > most // 4:
            notes["bytes"] = len(value)
            value = value[: most // 4]
        told = [(NOTES + name, str(note).encode()) for name, note in notes.items() if note is not None]
        values.append(value)
        keys.append(key)
        headers.append([*theirs, *told])
    return RecordParts(values, keys, [None] * len(values), headers)


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") + _HEADER for name, value in headers)
