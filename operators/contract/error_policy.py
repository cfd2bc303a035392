"""Error policies: the treatment of a record whose expression or function raises.

`fail` raises a RecordError that shows the record; `skip` counts it; `dead_letter` also sends it, with reason and
origin, to the operator's ERRORS output. For columns the failing rows are found by halving the frame, so that only
batches with errors pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_record
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import RawRecord, RecordError, StreamflowError, Where, cut, legible
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import ERRORS, Collector, ErrorPolicy
from streamflow.user_code import described, line_of_error, raised_by_user

__all__ = ["DEAD_LETTER_TYPE", "DeadLetters", "Guard", "dead_letters"]

DEAD_LETTER_TYPE: Final = StreamType(
    Schema(
        {
            "operator": pl.String,
            "split": pl.String,
            "offset": pl.String,
            "reason": pl.String,
            "record": pl.String,
        }
    ),
    timed=False,
)
"""The columns of an ERRORS output: the place of the error, its reason, and the record as text."""


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetters(FrameBatch):
    """A batch of DEAD_LETTER_TYPE with the record's bytes in its log for each row (None if it came from no log, or
    was decoded), for sinks that can keep the bytes."""

    raw: Sequence[RawRecord | None] = ()


def dead_letters(errors: Sequence[RecordError]) -> DeadLetters:
    """Bad records as a batch.

    >>> bad = RecordError("no number", record='{"n": "x"}', raw=RawRecord("orders", 0, 17, 0, None, b'{"n": "x"}'))
    >>> letters = dead_letters([bad])
    >>> letters.frame["reason"].to_list(), letters.raw[0].offset
    (['no number'], 17)
    """
    schema = DEAD_LETTER_TYPE.schema
    assert isinstance(schema, Schema)
    rows = [
        {
            "operator": error.where.operator,
            "split": error.where.split,
            "offset": error.where.offset,
            "reason": legible(error.message),
            "record": error.record,
        }
        for error in errors
    ]
    return DeadLetters(pl.DataFrame(rows, schema=dict(schema)), raw=[error.raw for error in errors])


class Guard:
    """One operator's error policy in one subtask."""

    def __init__(self, operator: str, policy: ErrorPolicy, metrics: OperatorMetrics) -> None:
        self._operator = operator
        self._policy: ErrorPolicy = policy
        self._metrics = metrics

    def bad(self, errors: Sequence[RecordError], out: Collector) -> None:
        """Treats bad records by policy; under `fail` raises the first error."""
        if not errors:
            return
        for error in errors:
            error.at(Where(operator=self._operator))
        if self._policy == "fail":
            raise errors[0]
        self._metrics.errors.add(len(errors))
        if self._policy == "dead_letter":
            out.emit_to(ERRORS, dead_letters(errors))

    def error(self, cause: BaseException, record: Any) -> RecordError:
        """The error of a record, made of the exception of its expression or function, with the line of the user's
        file."""
        if isinstance(cause, RecordError):
            cause.at(Where(code=line_of_error(cause)))
            # The one that was worked on, not a value that was met on the way.
            cause.record = cut(record)
            return cause
        error = RecordError(
            cause.message if isinstance(cause, StreamflowError) else described(cause),
            record=record,
            where=Where(code=line_of_error(cause)),
            hint="on_error('skip') or a dead-letter sink would continue without it",
        )
        error.__cause__ = cause
        return error

    def frame(
        self, frame: pl.DataFrame, apply: Callable[[pl.DataFrame], pl.DataFrame], out: Collector
    ) -> pl.DataFrame:
        """The result of `apply(frame)` without the rows for which it raises; for functions of each row alone."""
        try:
            return apply(frame)
        except BaseException as raised:
            cause = raised_by_user(raised)
            errors: list[RecordError] = []
            parts = self._halve(frame, apply, cause, errors)
            if not errors:
                raise StreamflowError(described(cause), where=Where(operator=self._operator)) from raised
            self.bad(errors, out)
            return pl.concat(parts) if parts else apply(frame.clear())

    def _halve(
        self,
        frame: pl.DataFrame,
        apply: Callable[[pl.DataFrame], pl.DataFrame],
        cause: BaseException,
        errors: list[RecordError],
    ) -> list[pl.DataFrame]:
        if frame.height <= 1:
            if frame.height == 1:
                shown = shown_record(frame, 0)
                errors.append(self.error(cause, shown))
            return []
        if self._policy == "fail" and errors:
            return []
        parts: list[pl.DataFrame] = []
        middle = frame.height // 2
        for half in (frame[:middle], frame[middle:]):
            try:
                parts.append(apply(half))
            except BaseException as raised:  # noqa: BLE001 — Polars' panics are none of Exception's
                parts.extend(self._halve(half, apply, raised_by_user(raised), errors))
        return parts
