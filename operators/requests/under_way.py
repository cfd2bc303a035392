"""Requests under way: inputs that have been asked and not put out yet, in the order in which they may be put out.

Results keep the order of their inputs, or come in the order of answers; either way none passes a watermark that came
behind its input, and no watermark passes a result. Decides only: the operator that makes the requests reports
answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Request", "Requests", "Span"]


@dataclass(slots=True, eq=False)
class Span:
    """The requests between two watermarks. `watermark`: the one behind them, None for the last span, which is open."""

    waiting: dict[int, Request] = field(default_factory=dict[int, "Request"])
    """The unanswered requests in the order of their inputs, by number."""
    ready: list[Request] = field(default_factory=list["Request"])
    """The answered requests, in the order of the answers."""
    watermark: int | None = None


@dataclass(slots=True, eq=False)
class Request:
    """One input, and once it is `answered` its result or error."""

    value: Any
    time: int | None
    number: int
    span: Span
    mark: int | None = None
    """The watermark before the input, if records carry one."""
    result: Any = None
    error: BaseException | None = None
    answered: bool = False
    began: int | None = None
    """The time of the clock at which it was first asked, in microseconds."""
    attempts: int = 0


class Requests:
    """The queue of one subtask.

    >>> requests = Requests(ordered=True)
    >>> first, second = requests.add("a", None), requests.add("b", None)
    >>> requests.watermark(5), requests.answered(second)
    (None, False)
    >>> requests.answered(first), [each.value for each in requests.take()], requests.passed()
    (True, ['a', 'b'], 5)
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._spans: deque[Span] = deque([Span()])
        self._added = 0
        self._taken = 0

    def __len__(self) -> int:
        return self._added - self._taken

    @property
    def empty(self) -> bool:
        """Whether there is neither a request nor a watermark."""
        return len(self._spans) == 1 and not self._spans[0].waiting

    @property
    def first(self) -> Request | None:
        """The first request without an answer, in the order of their inputs."""
        every = (request for span in self._spans for request in span.waiting.values())
        return next((request for request in every if not request.answered), None)

    def add(self, value: Any, time: int | None, mark: int | None = None) -> Request:
        """Adds an input, behind all others."""
        span = self._spans[-1]
        request = Request(value, time, self._added, span, mark)
        self._added += 1
        span.waiting[request.number] = request
        return request

    def watermark(self, time: int) -> int | None:
        """Takes a watermark: returns it if no result has to come before it; otherwise it waits."""
        if self.empty:
            return time
        if not self._spans[-1].waiting:
            # Nothing has come between the last watermark and this one.
            self._spans.pop()
        self._close(time)
        return None

    def answered(self, request: Request) -> bool:
        """Marks a request as answered; returns whether there is something to take."""
        request.answered = True
        if not self._ordered:
            request.span.ready.append(request)
        return self.takeable

    @property
    def takeable(self) -> bool:
        """Whether `take` or `passed` gives anything."""
        span = self._spans[0]
        if not span.waiting:
            return span.watermark is not None
        return next(iter(span.waiting.values())).answered if self._ordered else bool(span.ready)

    def take(self) -> list[Request]:
        """Takes out the requests that may be put out now."""
        span = self._spans[0]
        taken: list[Request] = []
        if self._ordered:
            for request in span.waiting.values():
                if not request.answered:
                    break
                taken.append(request)
        else:
            taken, span.ready = span.ready, []
            if taken:
                # Event time has come no further than to the first waiting request.
                first = next(iter(span.waiting.values()))
                for request in taken:
                    request.mark = first.mark
        for request in taken:
            del span.waiting[request.number]
        self._taken += len(taken)
        return taken

    def passed(self) -> int | None:
        """The watermark before which everything has been taken, once; None if there is none."""
        span = self._spans[0]
        if span.waiting or span.watermark is None:
            return None
        self._spans.popleft()
        return span.watermark

    def snapshot(self) -> list[tuple[list[Any], list[int | None], int | None, list[int | None]]]:
        """(values, times, watermark, marks) of each span: all requests not taken yet, in order."""
        return [
            (
                [request.value for request in span.waiting.values()],
                [request.time for request in span.waiting.values()],
                span.watermark,
                [request.mark for request in span.waiting.values()],
            )
            for span in self._spans
        ]

    def restore(self, spans: Sequence[Sequence[Any]]) -> list[Request]:
        """Adds the requests of a snapshot behind the present ones; returns those to begin again. Snapshots of earlier
        versions have no marks."""
        begun: list[Request] = []
        for values, times, watermark, *marks in spans:
            each = marks[0] if marks else [None] * len(values)
            begun += map(self.add, values, times, each)
            if watermark is not None:
                self._close(watermark)
        return begun

    def _close(self, watermark: int) -> None:
        self._spans[-1].watermark = watermark
        self._spans.append(Span())
