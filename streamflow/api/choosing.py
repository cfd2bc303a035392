"""The methods of a stream that choose among whole records and put them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

import polars as pl

from streamflow.time.timestamps import Duration

if TYPE_CHECKING:
    from streamflow.api.sorting import InOrderStream
    from streamflow.api.stream import Stream

__all__ = ["Choosing", "On"]

On = str | pl.Expr | Callable[[Any], Any]


class Choosing:
    """The part of a stream's methods that are about whole records: which, and in which order."""

    __slots__ = ()

    def deduplicate(
        self,
        on: On | Iterable[On] | None = None,
        *,
        within: Duration | None = None,
        keep: Literal["first", "last"] = "first",
        null_keys: Literal["fail", "group"] = "fail",
    ) -> InOrderStream:
        """One record of each key: of those with the same values in `on` (columns, expressions or functions of a row;
        None: in all columns).

        Records of a key are in one group if they lie less than `within` after the group's first by event time; the
        next one begins another group. Without `within` a key has one group for ever. `keep="first"` gives the first of
        each group, as soon as the watermark has passed it: whichever came first, the earliest by event time, and of
        those of one moment the first in the order of their columns' values. `keep="last"` gives the last, once
        the watermark has passed the end of the group. The others are counted: `JobResult.duplicates`. Records
        behind the watermark go to `.late` of the result, or are counted.

        A stream without event time gives the first record that comes, at once. Null keys are refused with an error;
        with `null_keys="group"` null is a key like any other.

        >>> import streamflow as sf
        >>> job = sf.Job("once")
        >>> rows = [{"id": 7, "ts": 0}, {"id": 7, "ts": 2}, {"id": 8, "ts": 3}, {"id": 7, "ts": 70}]
        >>> orders = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
        >>> out = orders.deduplicate("id", within="1m").collect()
        >>> result = job.run()
        >>> out.frame()["ts"].to_list(), result.duplicates
        ([0, 3, 70], 1)
        """
        from streamflow.api.sorting import deduplicated

        return deduplicated(cast("Stream", self), on, within, keep, null_keys)

    def distinct(self, *on: On) -> InOrderStream:
        """The first record of each key, for ever: `deduplicate(on)`; without `on` each different record once.

        Null is a value like any other.

        >>> import streamflow as sf
        >>> job = sf.Job("airports")
        >>> out = job.read(sf.MemorySource([{"at": "JFK"}, {"at": "LGA"}, {"at": "JFK"}])).distinct().collect()
        >>> _ = job.run()
        >>> out.frame()["at"].to_list()
        ['JFK', 'LGA']
        """
        from streamflow.api.sorting import deduplicated

        return deduplicated(cast("Stream", self), on or None, None, "first", "group")

    def sort(
        self, *by: On | Iterable[On], descending: bool | Iterable[bool] = False, nulls_last: bool = False
    ) -> InOrderStream:
        """The records in order; one subtask does it.

        `sort("event_time")` puts records out in order of event time, as far as the watermark has come, and those of one
        moment in the order of their columns' values. Records behind the watermark go to `.late` of the result, or are
        counted. Any other order needs all records: in batch mode they are sorted at the end, in files where they do not
        fit into memory; in another mode the job is refused when it begins. `descending` and `nulls_last` are
        those of Polars' `sort`.

        >>> import streamflow as sf
        >>> job = sf.Job("in order")
        >>> rows = [{"v": 1, "ts": 3}, {"v": 2, "ts": 1}]
        >>> stream = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"), watermark="5s")
        >>> out = stream.sort("event_time").collect()
        >>> _ = job.run(mode="streaming")
        >>> out.frame()["v"].to_list()
        [2, 1]
        """
        from streamflow.api.sorting import sorted_stream

        return sorted_stream(cast("Stream", self), by, descending, nulls_last)

    def top_k(self, k: int, by: On | Iterable[On], *, descending: bool | Iterable[bool] = True) -> Stream:
        """The first `k` of all records, those with the largest values in `by`: a changing result, as of
        `KeyedStream.top_k`; one subtask does it.

        >>> import streamflow as sf
        >>> job = sf.Job("largest")
        >>> out = job.read(sf.MemorySource([{"v": 1}, {"v": 3}, {"v": 2}])).top_k(2, "v").collect()
        >>> _ = job.run(mode="batch")
        >>> out.frame()["v"].to_list()
        [3, 2]
        """
        from streamflow.api.keyed import keyless

        return keyless(cast("Stream", self)).top_k(k, by, descending=descending)
