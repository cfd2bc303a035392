"""Finds the partitions to read: at the start, and again and again while the job runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from zlib import crc32

from streamflow.errors import SourceError
from streamflow.logs import reason, told
from streamflow.operators.connectors.kafka.client import At, Metadata, TopicPartition
from streamflow.operators.connectors.kafka.reading_range import Offsets
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.source import Discovery, Instance, Position, SourceContext, Split

__all__ = ["KafkaEnumerator", "Reading"]

_DECIDED_WITHIN: Final = 1.0
_LOOK_AGAIN_AFTER: Final = 0.01
_EVERYTHING: Final = re.compile(".*", re.DOTALL)
_LOG = logging.getLogger("streamflow.kafka")


@dataclass(frozen=True, slots=True)
class Reading:
    """What of which topics is to be read. `every`: seconds between two looks for new partitions, None for one look."""

    topics: Sequence[str] | re.Pattern[str]
    start: At | Offsets
    end: At | Offsets | None
    group: str | None
    every: float | None


class KafkaEnumerator:
    """The partitions of this copy of the program: partition p of topic t belongs to copy (p + crc32(t)) % copies.

    Start and end are resolved when a partition is first found and belong to its split from then on; a partition that is
    found later is read from its beginning. Its state: the partitions it has handed out.
    """

    def __init__(self, reading: Reading, session: KafkaSession, ctx: SourceContext) -> None:
        self._reading = reading
        self._session = session
        self._clock = ctx.clock
        self._instance = ctx.instance
        self._known: dict[TopicPartition, tuple[int, int | None]] = {}
        self._looked = False

    async def discover(self) -> Discovery:
        every = self._reading.every
        try:
            while True:
                if not self._looked:
                    splits = await self._look(first=True)
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
        # Nothing is awaited from here on: a checkpoint has what was found either here and handed out, or not at all.
        self._looked = True
        for split in splits:
            partition = TopicPartition(split.payload["topic"], split.payload["partition"])
            self._known[partition] = (split.payload["start"], split.payload["end"])
        return Discovery(splits, final=final)

    def snapshot(self) -> Mapping[str, Any]:
        return {
            "looked": self._looked,
            "partitions": [[*partition, start, end] for partition, (start, end) in self._known.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._looked = bool(state["looked"])
        self._known = {
            TopicPartition(topic, partition): (start, end)
            for topic, partition, start, end in state["partitions"]
        }

    async def checkpointed(self, positions: Mapping[str, Position]) -> None:
        """Tell the consumer group, for those who watch it."""
        if self._reading.group is None or not positions:
            return
        offsets: dict[TopicPartition, int] = {}
        for split, position in positions.items():
            topic, _, partition = split.rpartition("-")
            offsets[TopicPartition(topic, int(partition))] = int(position["offset"])
        await self._session.commit(self._reading.group, offsets)

    async def _look_again(self) -> list[Split]:
        """A broker that is away is no reason to stop: whether the job can go on is for its readers to say."""
        splits: list[Split] = []
        try:
            splits = await self._look(first=False)
            metadata = await self._session.metadata()
            self._session.tell_ends(await metadata.offsets(list(self._known), "latest"))
        except SourceError as error:
            _LOG.warning("new partitions could not be looked for", extra=told(error=reason(error)))
            await self._session.close_metadata()
        return splits

    async def _look(self, *, first: bool) -> list[Split]:
        metadata = await self._session.metadata()
        topics = self._reading.topics
        counts = await metadata.partitions(topics)
        if not isinstance(topics, re.Pattern):
            missing = [topic for topic in topics if topic not in counts]
            if missing and first:
                raise _unknown(missing[0], await metadata.partitions(_EVERYTHING))
        every = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        if first:
            self._check_named(every)
        mine = [each for each in every if _belongs(each, self._instance)]
        fresh = [partition for partition in mine if partition not in self._known]
        starts = await self._starts(metadata, fresh, first=first)
        ends = await self._ends(metadata, fresh)
        splits: list[Split] = []
        for partition in fresh:
            start, end = starts[partition], ends.get(partition)
            payload = {"topic": partition.topic, "partition": partition.partition, "start": start, "end": end}
            splits.append(Split(str(partition), payload, unbounded=end is None))
            _LOG.info("partition found", extra=told(split=str(partition), start=start, end=end))
        return splits

    async def _starts(
        self, metadata: Metadata, fresh: Sequence[TopicPartition], *, first: bool
    ) -> Mapping[TopicPartition, int]:
        start = self._reading.start if first else "earliest"
        if isinstance(start, dict):
            given = {partition: start[partition] for partition in fresh if partition in start}
        else:
            given = dict(await metadata.offsets(fresh, start, group=self._reading.group))
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
        """The ends now. Brokers confirm the end of a transaction before it has reached its partitions: so that what
        has been published is read, undecided records are waited for, but for a transaction that stays open."""
        appended = await metadata.offsets(partitions, "appended")
        give_up = self._clock.monotonic() + _DECIDED_WITHIN
        while True:
            # All of them each time: of what is committed meanwhile, too, all is to be read or nothing.
            latest = await metadata.offsets(partitions, "latest")
            decided = all(latest[each] >= appended[each] for each in partitions)
            if decided or self._clock.monotonic() >= give_up:
                return latest
            await self._clock.sleep(_LOOK_AGAIN_AFTER)

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
    """Topics begin with different copies, so that many small topics spread over all of them."""
    return (partition.partition + crc32(partition.topic.encode())) % instance.count == instance.index


def _unknown(topic: str, there: Mapping[str, int]) -> SourceError:
    near = get_close_matches(topic, there, n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else "create it first, or check bootstrap_servers="
    )
    return SourceError(f"there is no topic {topic!r}", hint=hint)
