"""The answer to "why has this window not closed?": the watermark that a result waits for and the split that holds it
back, the processing time, or the answer from outside that has not come."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Wait"]


@dataclass(frozen=True, slots=True)
class Wait:
    """A result that waits in one operator. Times are microseconds of event time.

    `until` is the watermark that lets it go (None: the end of the input), `watermark` that of the operator (None before
    the first). `rows` wait in it in all. `through` are the operators between it and the source whose split holds it
    back, nearest first; `source`, `split` and the split's `latest` event are None where nothing is known. The split may
    still bring events up to `bound` older than its latest; one that is quiet is left out after `idle_after`, if at all.

    A result that waits for processing time has a `clock`, the job's time now; `until` is of this clock then, and no
    split holds it back. A request, a sink's step or a barrier, whose end the job does
    not decide, has `clock` and `since`, the time of the clock at which it began.
    """

    operator: str
    what: str
    until: int | None
    rows: int
    watermark: int | None
    through: tuple[str, ...] = ()
    source: str | None = None
    split: str | None = None
    latest: int | None = None
    bound: int = 0
    idle_after: int | None = None
    clock: int | None = None
    since: int | None = None
