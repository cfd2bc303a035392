"""The enumerator of partitions: finds them at the start, and repeatedly while the job runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final
from zlib import crc32

from streamflow.errors import SourceError, StateError, Where
from streamflow.observe.logs import reason, told
from streamflow.operators.connectors.kafka.clients.port import At, Metadata, TopicPartition
from streamflow.operators.connectors.kafka.reading_range import Offsets
from streamflow.operators.connectors.kafka.session import KafkaSession, MadeAgainError
from streamflow.operators.contract.source import (
    Discovery,
    Instance,
    Position,
    SourceContext,
    Split,
    counted_in,
)

__all__ = ["KafkaEnumerator", "Reading"]

_DECIDED_WITHIN: Final = 1.0
_LOOK_AGAIN_AFTER: Final = 0.01
_EVERYTHING: Final = re.compile(".*", re.DOTALL)
_LOG = logging.getLogger("streamflow.kafka")


@dataclass(frozen=True, slots=True)
class Reading:
    """The topics and the range of reading. `every`: seconds between two looks for new partitions, None for one look."""

    topics: Sequence[str] | re.Pattern[str]
    start: At | Offsets
    end: At | Offsets | None
    group: str | None
    every: float | None

    def selects(self, topic: str) -> bool:
        """Whether this topic is read."""
        if isinstance(self.topics, re.Pattern):
            return self.topics.fullmatch(topic) is not None
        return topic in self.topics

    @property
    def shown(self) -> str:
        """The topics as text for messages."""
        return self.topics.pattern if isinstance(self.topics, re.Pattern) else ", ".join(self.topics)

    @property
    def kept(self) -> Mapping[str, Any]:
        """The part that a checkpoint keeps: the chosen topics."""
        if isinstance(self.topics, re.Pattern):
            return {"pattern": self.topics.pattern}
        return {"topics": list(self.topics)}

    def before(self, state: Mapping[str, Any]) -> Reading:
        """The same range with the topics of a checkpoint."""
        if "pattern" in state:
            return replace(self, topics=re.compile(state["pattern"]))
        names = state["topics"] if "topics" in state else [each[0] for each in state["partitions"]]
        return replace(self, topics=tuple(dict.fromkeys(names)))


class KafkaEnumerator:
    """The partitions of this copy of the program: partition p of topic t belongs to copy (p + crc32(t)) % copies.

    Start and end are resolved when a partition is first found and belong to its split from then on; a partition that
    is found later is read from its beginning. Its state: the chosen topics, and the partitions it has reported. If
    the job continues with other topics, new ones are read from the source's start, and those no longer chosen are
    not read further.
    """

    def __init__(self, reading: Reading, session: KafkaSession, ctx: SourceContext) -> None:
        self._reading = reading
        self._session = session
        self._clock = ctx.clock
        self._instance = ctx.instance
        self._known: dict[TopicPartition, tuple[int, int | None]] = {}
        self._there: frozenset[TopicPartition] = frozenset()
        self._looked = False
        self._before: Reading | None = None
        """The reading of an earlier run, until this run has looked."""
        self._gone: frozenset[TopicPartition] = frozenset()
        """Partitions without an end that are read no further: they were deleted."""

    async def discover(self) -> Discovery:
        every = self._reading.every
        try:
            while True:
                if not self._looked:
                    splits = await self._look(first=True)
                    break
                if self._before is not None and (every is not None or not self.complete):
                    splits = await (self._look_again() if every is not None else self._look(first=False))
                    self._before = None
                    if splits:
                        break
                if every is None:
                    splits = []
                    break
                await self._clock.sleep(every)
                splits = await self._look_again()
                if splits:
                    break
        except BaseException:
            await self._session.close_metadata()
            raise
        final = every is None
        if final:
            await self._session.close_metadata()
        # No await from here on: a checkpoint holds found partitions either here and reported, or not at all.
        self._looked = True
        for split in splits:
            partition = TopicPartition(split.payload["topic"], split.payload["partition"])
            self._known[partition] = (split.payload["start"], split.payload["end"])
        return Discovery(splits, final=final)

    def snapshot(self) -> Mapping[str, Any]:
        return {
            "looked": self._looked,
            **self._reading.kept,
            "ids": dict(self._session.ids),
            "partitions": [
                [*partition, start, end]
                for partition, (start, end) in self._known.items()
                if partition not in self._gone
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._looked = bool(state["looked"])
        known = {
            TopicPartition(topic, partition): (start, end)
            for topic, partition, start, end in state["partitions"]
        }
        self._known = {each: known[each] for each in known if self._reading.selects(each.topic)}
        ids: Mapping[str, str] = state.get("ids", {})
        chosen = {topic: ids[topic] for topic in ids if self._reading.selects(topic)}
        self._session.go_on(chosen, {each.topic for each in self._known})
        if not self._looked:
            return
        self._before = self._reading.before(state)
        if known and not self._known and self._before.kept != self._reading.kept:
            raise StateError(
                f"the checkpoint is of a source that read {self._before.shown}, and this one reads "
                f"{self._reading.shown}: none of those topics",
                hint='name sources so that each finds its own state, job.read(…).named("orders"), or start over with '
                "restore none",
            )
        for topic in sorted({each.topic for each in known} - {each.topic for each in self._known}):
            _LOG.warning("topic is no longer chosen and is read no further", extra=told(topic=topic))

    def unread(self, splits: Collection[str]) -> None:
        """See `SplitListener`."""
        self._gone = frozenset(
            partition
            for partition, (_, end) in self._known.items()
            if end is None and str(partition) not in splits
        )

    def keeps(self, split: Split) -> bool:
        """See `SplitKeeper`."""
        return self._reading.selects(split.payload["topic"])

    @property
    def complete(self) -> bool:
        """See `SplitKeeper`."""
        return self._before is None or self._before.kept == self._reading.kept

    async def checkpointed(self, positions: Mapping[str, Position]) -> None:
        """Tells the consumer group the positions, for those who watch it."""
        if self._reading.group is None or not positions:
            return
        offsets: dict[TopicPartition, int] = {}
        for split, position in positions.items():
            topic, _, partition = split.rpartition("-")
            offsets[TopicPartition(topic, int(partition))] = counted_in(position, "offset")
        await self._session.commit(self._reading.group, offsets)

    async def _look_again(self) -> list[Split]:
        """Looks for new partitions; an absent broker does not stop the job: its readers decide whether it can go on."""
        splits: list[Split] = []
        try:
            splits = await self._look(first=False)
            there = [each for each in self._known if each in self._there]
            async with self._session.metadata() as metadata:
                ends = await metadata.offsets(there, "latest")
                appended = await metadata.offsets(there, "appended")
            self._session.tell_ends(ends, appended)
        except (_NotThereError, MadeAgainError):
            raise
        except SourceError as error:
            _LOG.warning("new partitions could not be looked for", extra=told(error=reason(error)))
            await self._session.close_metadata()
        return splits

    async def _look(self, *, first: bool) -> list[Split]:
        async with self._session.metadata() as metadata:
            return await self._splits(metadata, first=first)

    async def _splits(self, metadata: Metadata, *, first: bool) -> list[Split]:
        topics = self._reading.topics
        counts = await metadata.partitions(topics)
        # A deleted topic that has come again is another topic of that name.
        for partition in self._gone:
            self._known.pop(partition, None)
            self._session.ids.pop(partition.topic, None)
        self._gone = frozenset()
        if not isinstance(topics, re.Pattern):
            missing = [topic for topic in topics if topic not in counts and (first or self._is_new(topic))]
            if missing:
                raise _unknown(missing[0], await metadata.partitions(_EVERYTHING))
        every = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        self._there = frozenset(every)
        await self._session.compare_ids(metadata, counts, {each.topic for each in self._known})
        if first:
            self._check_named(every)
        mine = [each for each in every if _belongs(each, self._instance)]
        fresh = [partition for partition in mine if partition not in self._known]
        new = [each for each in fresh if first or self._is_new(each.topic)]
        starts = await self._starts(metadata, fresh, new)
        ends = await self._ends(metadata, fresh)
        await self._check_starts(metadata, new, starts, ends)
        splits: list[Split] = []
        for partition in fresh:
            start, end = starts[partition], ends.get(partition)
            payload: dict[str, Any] = {"topic": partition.topic, "partition": partition.partition}
            payload |= {"start": start, "end": end}
            if partition.topic in self._session.ids:
                payload["topic_id"] = self._session.ids[partition.topic]
            splits.append(Split(str(partition), payload, unbounded=end is None))
            _LOG.info("partition found", extra=told(split=str(partition), start=start, end=end))
        return splits

    def _is_new(self, topic: str) -> bool:
        """Whether this run is the first that has chosen the topic."""
        return self._before is not None and not self._before.selects(topic)

    async def _starts(
        self, metadata: Metadata, fresh: Sequence[TopicPartition], new: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """The starting offsets: the source's for those in `new`; the others begin at their beginning."""
        start = self._reading.start
        if isinstance(start, dict):
            given = {partition: start[partition] for partition in new if partition in start}
        else:
            given = dict(await metadata.offsets(new, start, group=self._reading.group)) if new else {}
        # Nothing committed, or not named: from the beginning, since nothing of it has been read.
        rest = [partition for partition in fresh if partition not in given]
        return {**given, **await metadata.offsets(rest, "earliest")}

    async def _ends(
        self, metadata: Metadata, fresh: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        end = self._reading.end
        if end is None:
            return {}
        if isinstance(end, dict):
            given = {partition: end[partition] for partition in fresh if partition in end}
            rest = [partition for partition in fresh if partition not in given]
            return {**given, **await self._latest(metadata, rest)}
        # An end by time, too: behind the last record that is decided, it is the end of now.
        latest = await self._latest(metadata, fresh)
        return latest if end == "latest" else await metadata.offsets(fresh, end)

    async def _latest(
        self, metadata: Metadata, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """The present ends. Brokers confirm the end of a transaction before it has reached its partitions: so that
        published records are read, undecided ones are waited for, unless a transaction stays open."""
        appended = await metadata.offsets(partitions, "appended")
        give_up = self._clock.monotonic() + _DECIDED_WITHIN
        while True:
            # All of them each time: records committed meanwhile are to be read completely or not at all.
            latest = await metadata.offsets(partitions, "latest")
            decided = all(latest[each] >= appended[each] for each in partitions)
            if decided or self._clock.monotonic() >= give_up:
                return latest
            await self._clock.sleep(_LOOK_AGAIN_AFTER)

    async def _check_starts(
        self,
        metadata: Metadata,
        new: Sequence[TopicPartition],
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Raises for an offset that a log does not have yet: reading would wait for it, or read nothing."""
        start, by_offset = self._reading.start, isinstance(self._reading.end, dict)
        if not isinstance(start, dict) and start != "committed" and not by_offset:
            return
        appended = await metadata.offsets(new, "appended")
        for partition in new:
            at, end = starts[partition], ends.get(partition)
            if at > appended[partition]:
                raise SourceError(
                    f"reading {partition} is to begin at offset {at}, which is beyond its end: the log ends at offset "
                    f"{appended[partition]}",
                    where=Where(split=str(partition), offset=f"offset {at}"),
                    hint="a topic that was made again begins at 0: check the origin of the offset",
                )
            if end is not None and by_offset and end > appended[partition]:
                raise SourceError(
                    f"reading {partition} is to end at offset {end}, which is beyond its end: the log ends at offset "
                    f"{appended[partition]}",
                    where=Where(split=str(partition), offset=f"offset {end}"),
                    hint='end="latest" reads the existing records; without end= the job waits for new ones',
                )
            if end is not None and by_offset and at > end:
                raise SourceError(
                    f"reading {partition} is to begin at offset {at} and to end before, at offset {end}",
                    where=Where(split=str(partition)),
                    hint="check start= and end=",
                )

    def _check_named(self, every: Sequence[TopicPartition]) -> None:
        for what, offsets in (("start", self._reading.start), ("end", self._reading.end)):
            if not isinstance(offsets, dict):
                continue
            for partition in offsets:
                if partition not in every:
                    raise SourceError(
                        f"{what}= names {partition}, which is not read",
                        hint=f"there are: {', '.join(map(str, sorted(every)[:20])) or 'none'}",
                    )


def _belongs(partition: TopicPartition, instance: Instance) -> bool:
    """Whether this copy reads the partition. Topics begin with different copies, so that many small topics spread
    over all."""
    return (partition.partition + crc32(partition.topic.encode())) % instance.count == instance.index


class _NotThereError(SourceError):
    """A topic that does not exist."""

    final = True


def _unknown(topic: str, there: Mapping[str, int]) -> SourceError:
    near = get_close_matches(topic, there, n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else "create it first, or check bootstrap_servers="
    )
    return _NotThereError(f"there is no topic {topic!r}", hint=hint)
