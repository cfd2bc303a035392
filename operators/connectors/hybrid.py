"""`HybridSource`: history first, then the live log from the point at which the history ends.

The live source is asked for its splits only when every split of the history has been read to its end. Its starting
point comes from the history itself (the offsets its records once had) or is a moment. Either way each record is read
once: by offsets the live source starts behind the largest that the history holds; by a moment each side leaves out
the other's records (FLIP-150 leaves the first of these to the user).
"""

# The source, its enumerator and its readers belong together.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol, cast, runtime_checkable

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SourceError
from streamflow.operators.contract.source import (
    CheckpointListener,
    Decoded,
    Discovery,
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitKeeper,
    SplitListener,
    SplitReader,
)
from streamflow.time.timestamps import to_micros

__all__ = ["HybridSource", "Startable"]

_ORIGIN: Final = ("topic", "partition", "offset")
_HISTORY: Final = "history"
_LIVE: Final = "live"


@runtime_checkable
class Startable(Protocol):
    """A source that can begin at a moment, or at offsets by split."""

    def starting(self, at: datetime | Mapping[str, int]) -> Source:
        """The same source, beginning at the moment or the offsets."""
        ...


@dataclass(frozen=True, slots=True)
class HybridSource(Source):
    """Reads a bounded source to its end and continues with another, without a gap and without reading anything twice.

    Both need the same columns. The starting point of the second is given in one of two ways:

    - `offsets`: the columns of the history that hold each record's topic, partition and offset (written by
      `KafkaSource(include=["topic", "partition", "offset"])`). The second starts behind the largest offset of each
      partition; partitions of which the history has nothing are read from their beginning. When the history has been
      read, these columns alone are read again to find the largest.
    - `at` and `time`: history before the moment `at`, live records from it on, by the column `time`. The second source
      starts at the first record that was appended at or after `at`; where records may be appended before their own
      time, give it an earlier `start` itself.

    In streaming mode an archive's files are splits, and a topic's partitions lie side by side in time: write the
    archive with a file for each partition (docs/architectures.md), or records of one make those of another late.

    Raises JobDefinitionError for sources or columns that do not fit.

    >>> from streamflow.operators.connectors.memory import MemorySource
    >>> HybridSource(
    ...     MemorySource([{"n": 1}]), then=MemorySource([{"n": 2}]), at="2026-01-01", time="n"
    ... )  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    streamflow.errors.JobDefinitionError: ...HybridSource cannot continue with MemorySource(1 rows); give a KafkaSource
    """

    history: Source
    then: Source = field(kw_only=True)
    offsets: Sequence[str] | None = field(default=None, kw_only=True)
    at: datetime | str | None = field(default=None, kw_only=True)
    time: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for source in (self.history, self.then):
            if not isinstance(source, Source):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise JobDefinitionError(
                    f"HybridSource got {source!r}",
                    hint="give two sources: FileSource(…), then=KafkaSource(…)",
                )
        if not self.history.bounded:
            raise JobDefinitionError(
                f"{self.history.describe()} does not end", hint="history first: a source that is bounded"
            )
        if not isinstance(self.then, Startable):
            raise JobDefinitionError(
                f"HybridSource cannot continue with {self.then.describe()}", hint="give a KafkaSource"
            )
        if (self.offsets is None) == (self.at is None) or (self.at is None) != (self.time is None):
            raise JobDefinitionError(
                "HybridSource does not know where the second source begins",
                hint='give offsets=("topic", "partition", "offset"), or at= and time=',
            )
        if self.offsets is not None and (isinstance(self.offsets, str) or len(self.offsets) != len(_ORIGIN)):
            raise JobDefinitionError(
                f"offsets is {self.offsets!r}",
                hint="name three columns: of the topic, the partition, the offset",
            )
        self.output_type()

    @property
    def bounded(self) -> bool:
        return self.then.bounded

    def output_type(self) -> StreamType:
        before, after = self.history.output_type(), self.then.output_type()
        if not isinstance(before.schema, Schema) or not isinstance(after.schema, Schema):
            raise JobDefinitionError("HybridSource needs columns on both sides", hint="give schema=")
        if dict(before.schema) != dict(after.schema):
            raise JobDefinitionError(
                f"the two sources have different columns: {before.schema} and {after.schema}",
                hint="give both the same schema=, and include= where the history holds it",
            )
        for name in (*(self.offsets or ()), *(() if self.time is None else (self.time,))):
            before.schema.need(name)
        if self.time is not None and before.schema[self.time].base_type() not in (pl.Datetime, pl.Date):
            raise JobDefinitionError(
                f"the column {self.time!r} is {before.schema[self.time]}, no time",
                hint="name a Datetime column",
            )
        return StreamType(before.schema, before.timed and after.timed)

    @property
    def input(self) -> Mapping[str, Any]:
        sides = {_HISTORY: self.history, _LIVE: self.then}
        return {side: {"kind": type(source).__name__, **source.input} for side, source in sides.items()}

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        problems: list[str] = []
        for side, source in ((_HISTORY, self.history), (_LIVE, self.then)):
            before = dict(saved.get(side, {}))
            kind, mine = before.pop("kind", None), type(source).__name__
            if kind not in (None, mine):
                problems.append(f"{side} was a {kind} and is a {mine}")
            elif kind is not None:
                problems += [f"{side}: {why}" for why in source.differences(before)]
        return problems

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return _HybridEnumerator(self, ctx)

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        live = split.payload["of"] == _LIVE
        inner = replace(split, payload=split.payload["payload"])
        source = self._live_from({}) if live else self.history
        return _SidedReader(
            source.reader(inner, position, self._context(ctx, split.payload["of"])), self, live=live
        )

    def describe(self) -> str:
        return f"HybridSource({self.history.describe()}, then {self.then.describe()})"

    def _live_from(self, offsets: Mapping[str, int]) -> Source:
        """The second source, beginning where the history ends."""
        if self.at is not None:
            told = getattr(self.then, "start", "earliest")
            return self.then if told != "earliest" else cast("Startable", self.then).starting(self._moment)
        return cast("Startable", self.then).starting(offsets) if offsets else self.then

    @property
    def _moment(self) -> datetime:
        """`at` as a time in UTC."""
        assert self.at is not None
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=to_micros(self.at))

    def _context(self, ctx: SourceContext, side: str) -> SourceContext:
        """The context of one side's source: also reads the columns by which records are told apart. `shared` is each
        side's own, as two sources of one kind may read two clusters."""
        ctx = replace(ctx, shared=ctx.shared.setdefault(side, {}))
        if ctx.columns is None or self.time is None or self.time in ctx.columns:
            return ctx
        return replace(ctx, columns=[*ctx.columns, self.time])

    def _mine(self, frame: pl.DataFrame, *, live: bool) -> pl.DataFrame:
        """The rows of this side."""
        if self.time is None:
            return frame
        moment = pl.lit(self._moment.replace(tzinfo=None), dtype=pl.Datetime("us"))
        time = pl.col(self.time).cast(pl.Datetime("us"))  # of a zone: its UTC
        return frame.filter(time >= moment if live else time < moment)


class _SidedReader:
    """A reader of either source; leaves out the other's rows."""

    def __init__(self, inner: SplitReader, source: HybridSource, *, live: bool) -> None:
        self._inner = inner
        self._source = source
        self._live = live
        self._timed = source.output_type().timed

    async def fetch(self) -> Fetch | None:
        fetch = await self._inner.fetch()
        return None if fetch is None else replace(fetch, decode=partial(self._decode, fetch))

    async def close(self) -> None:
        await self._inner.close()

    def _decode(self, fetch: Fetch) -> Decoded:
        decoded = fetch.decode()
        if not isinstance(decoded.batch, FrameBatch):
            return decoded
        frame = self._source._mine(decoded.batch.frame, live=self._live)
        return replace(
            decoded, batch=FrameBatch(frame if self._timed else frame.drop(EVENT_TIME, strict=False))
        )


class _HybridEnumerator:
    """The splits of the history; when all of them have been read, those of the live source."""

    def __init__(self, source: HybridSource, ctx: SourceContext) -> None:
        self._source = source
        self._ctx = ctx
        self._history = source.history.enumerator(source._context(ctx, _HISTORY))
        self._live: Enumerator | None = None
        self._offsets: dict[str, int] = {}
        self._known = False
        """Whether all of the history's splits have been found."""
        self._read = asyncio.Event()

    async def discover(self) -> Discovery:
        if not self._known:
            found = await self._history.discover()
            self._known = found.final
            return Discovery([_marked(split, _HISTORY) for split in found.splits], final=False)
        if self._live is None:
            await self._read.wait()
            if self._source.offsets is not None:
                self._offsets = await self._largest()
            self._live = self._made()
        found = await self._live.discover()
        return Discovery([_marked(split, _LIVE) for split in found.splits], final=found.final)

    def unread(self, splits: Collection[str]) -> None:
        if splits or not self._known:
            self._read.clear()
        else:
            self._read.set()
        live: object = self._live
        if isinstance(live, SplitListener):
            live.unread(splits)

    def keeps(self, split: Split) -> bool:
        """See `SplitKeeper`."""
        side: object = self._live if split.payload["of"] == _LIVE else self._history
        if not isinstance(side, SplitKeeper):
            return True
        return side.keeps(replace(split, payload=split.payload["payload"]))

    @property
    def complete(self) -> bool:
        """See `SplitKeeper`."""
        sides: tuple[object, object] = (self._history, self._live)
        return all(side.complete for side in sides if isinstance(side, SplitKeeper))

    async def checkpointed(self, positions: Mapping[str, Position]) -> None:
        live: object = self._live
        if isinstance(live, CheckpointListener):
            await live.checkpointed(positions)

    def snapshot(self) -> Mapping[str, Any]:
        return {
            "known": self._known,
            "history": dict(self._history.snapshot()),
            "offsets": dict(self._offsets),
            "live": None if self._live is None else dict(self._live.snapshot()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._known = state["known"]
        self._history.restore(state["history"])
        self._offsets = dict(state["offsets"])
        if state["live"] is not None:
            self._live = self._made()
            self._live.restore(state["live"])

    def _made(self) -> Enumerator:
        return self._source._live_from(self._offsets).enumerator(self._source._context(self._ctx, _LIVE))

    async def _largest(self) -> dict[str, int]:
        """The live source's starting offset of each partition: behind the largest offset in the history."""
        assert self._source.offsets is not None
        topic, partition, offset = self._source.offsets
        ctx = replace(self._ctx, columns=list(self._source.offsets), shared={})
        enumerator = self._source.history.enumerator(ctx)
        largest: dict[str, int] = {}
        final = False
        while not final:
            found = await enumerator.discover()
            final = found.final
            for split in found.splits:
                reader = self._source.history.reader(split, None, ctx)
                try:
                    while (fetch := await reader.fetch()) is not None:
                        decoded = await ctx.run_blocking(fetch.decode)
                        _raise(largest, decoded.batch.frame, topic, partition, offset)
                finally:
                    await reader.close()
        return {name: last + 1 for name, last in largest.items()}


def _raise(largest: dict[str, int], frame: pl.DataFrame, topic: str, partition: str, offset: str) -> None:
    found = frame.group_by(topic, partition).agg(pl.col(offset).max())
    for name, number, last in found.select(topic, partition, offset).iter_rows():
        if name is None or number is None or last is None:
            raise SourceError(
                "the history has records without topic, partition or offset",
                hint="write it from KafkaSource(include=[…]), or switch by time: at= and time=",
            )
        key = f"{name}-{number}"
        largest[key] = max(last, largest.get(key, -1))


def _marked(split: Split, side: str) -> Split:
    return replace(split, payload={"of": side, "payload": split.payload})
