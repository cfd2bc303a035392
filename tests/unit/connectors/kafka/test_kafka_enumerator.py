"""Which partitions are read from where, decided against a log that is only offsets."""

import asyncio
import re
from dataclasses import dataclass, replace

import polars as pl
import pytest

from streamflow.errors import SourceError, StateError
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.enumerator import KafkaEnumerator, Reading
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.connectors.kafka.source import KafkaSource
from streamflow.operators.contract.source import Instance, Split
from tests.unit.connectors.driving import JumpingClock, source_context

READING = Reading(("flights",), "latest", None, None, 30.0)


class Log:
    """Topics with (start, end) of each partition; a client for whoever asks for metadata. `fails`: the calls to come
    that fail, `ends_fail`: those that ask for ends. `undecided`: so many records at its end belong to open transactions
    when it is asked for the next time, and the next. `looked` is called whenever offsets are asked for."""

    def __init__(self, **topics):
        self.topics = topics
        self.fails = self.ends_fail = 0
        self.looked = lambda: None
        self.undecided = []
        self.committed = {}
        self.closed = 0

    def metadata(self, *, client_id):
        return self

    async def start(self):
        if self.fails:
            self.fails -= 1
            raise SourceError("nobody there")

    async def close(self):
        self.closed += 1

    async def partitions(self, topics):
        if isinstance(topics, re.Pattern):
            return {topic: len(ranges) for topic, ranges in self.topics.items() if topics.fullmatch(topic)}
        return {topic: len(self.topics[topic]) for topic in topics if topic in self.topics}

    async def offsets(self, partitions, at, *, group=None):
        self.looked()
        if at == "latest" and self.ends_fail:
            self.ends_fail -= 1
            raise SourceError("no leader")
        if at == "committed":
            return {each: self.committed[each] for each in partitions if each in self.committed}
        column = 0 if at == "earliest" else 1
        missing = self.undecided.pop(0) if at == "latest" and self.undecided else 0
        return {each: self.topics[each.topic][each.partition][column] - missing for each in partitions}

    async def commit(self, group, offsets):
        self.committed = dict(offsets)

    async def topic_ids(self, topics):
        return {}


def enumerating(log, reading=READING, instance=Instance()):  # noqa: B008 — it is frozen
    clock = JumpingClock()
    ctx = replace(source_context(clock=clock), instance=instance)
    return KafkaEnumerator(reading, KafkaSession(log, "test", ctx), ctx), clock


def look(enumerator):
    found = asyncio.run(enumerator.discover())
    return {split.id: (split.payload["start"], split.payload["end"]) for split in found.splits}


def test_the_start_is_looked_up_once_and_what_comes_later_is_read_from_its_beginning():
    log = Log(flights=[(3, 10)])
    enumerator, clock = enumerating(log)
    assert look(enumerator) == {"flights-0": (10, None)}
    log.topics["flights"] = [(3, 20), (5, 9)]
    assert look(enumerator) == {"flights-1": (5, None)}
    assert clock.slept == [30.0]


def test_a_restart_finds_only_what_is_new():
    log = Log(flights=[(0, 10)])
    first, _ = enumerating(log)
    look(first)
    log.topics["flights"] = [(0, 20), (5, 9)]
    second, _ = enumerating(log)
    second.restore(first.snapshot())
    assert look(second) == {"flights-1": (5, None)}
    assert second.snapshot()["partitions"] == [["flights", 0, 10, None], ["flights", 1, 5, None]]


def test_a_look_that_fails_is_repeated_except_for_the_first():
    log = Log(flights=[(0, 10)])
    enumerator, clock = enumerating(log)
    log.fails = 1
    with pytest.raises(SourceError, match="nobody there"):
        look(enumerator)
    look(enumerator)
    log.topics["flights"].append((0, 1))
    asyncio.run(enumerator._session.close_metadata())
    log.fails = 2
    assert look(enumerator) == {"flights-1": (0, None)}
    assert clock.slept == [30.0] * 3


def test_an_end_has_what_is_just_being_committed_but_waits_for_no_transaction_that_stays_open():
    log = Log(flights=[(0, 10), (2, 12)])
    bounded = replace(READING, start="earliest", end="latest", every=None)
    log.undecided = [3, 3, 0]
    enumerator, clock = enumerating(log, bounded)
    assert look(enumerator) == {"flights-0": (0, 10), "flights-1": (2, 12)}
    assert len(clock.slept) == 2
    log.undecided = [3] * 1000
    enumerator, clock = enumerating(log, bounded)
    assert look(enumerator) == {"flights-0": (0, 7), "flights-1": (2, 9)}
    assert 1.0 <= sum(clock.slept) < 1.1


def test_what_is_committed_while_it_waits_for_an_end_is_read_in_all_partitions_or_none():
    log = Log(flights=[(0, 10), (0, 10)])
    enumerator, _ = enumerating(log, replace(READING, start="earliest", end="latest", every=None))
    log.undecided = [2, 2]

    def committed():
        if not log.undecided:
            log.topics["flights"] = [(0, 15), (0, 15)]

    log.looked = committed
    assert look(enumerator) == {"flights-0": (0, 15), "flights-1": (0, 15)}


def test_an_end_by_time_has_what_is_just_being_committed():
    log = Log(flights=[(0, 10)])
    enumerator, clock = enumerating(log, replace(READING, start="earliest", end=7, every=None))
    log.undecided = [3, 3]
    assert look(enumerator) == {"flights-0": (0, 10)}
    assert len(clock.slept) == 2


@pytest.mark.parametrize("positions", [{}, {"flights-0": {"offset": 3}}])
def test_a_checkpoint_while_it_looks_does_not_close_the_connection(positions):
    log = Log(flights=[(0, 10)])
    enumerator, _ = enumerating(log, replace(READING, group="readers"))

    async def checkpoint_while_looking():
        checkpoints = []
        log.looked = lambda: checkpoints.append(asyncio.ensure_future(enumerator.checkpointed(positions)))
        await enumerator.discover()
        await asyncio.gather(*checkpoints)
        return len(checkpoints)

    assert asyncio.run(checkpoint_while_looking())
    assert not log.closed


def test_a_bounded_source_looks_once():
    log = Log(flights=[(0, 10), (2, 2)])
    enumerator, _ = enumerating(log, replace(READING, start="earliest", end="latest", every=None))
    discovery = asyncio.run(enumerator.discover())
    assert discovery.final
    assert [(split.payload["end"], split.unbounded) for split in discovery.splits] == [
        (10, False),
        (2, False),
    ]
    assert log.closed == 1


def test_what_the_group_has_not_committed_starts_at_the_beginning():
    log = Log(flights=[(1, 10), (2, 9)])
    enumerator, _ = enumerating(log, replace(READING, start="committed", group="g"))
    asyncio.run(enumerator.checkpointed({"flights-0": {"offset": 7}}))
    assert log.committed == {TopicPartition("flights", 0): 7}
    assert look(enumerator) == {"flights-0": (7, None), "flights-1": (2, None)}


def test_every_partition_belongs_to_exactly_one_copy():
    log = Log(**{f"t{number}": [(0, 1)] for number in range(20)}, wide=[(0, 1)] * 7)
    reading = replace(READING, topics=re.compile(".*"), start="earliest")
    parts = [set(look(enumerating(log, reading, Instance(index, 3))[0])) for index in range(3)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 27
    # Topics of one partition do not all end up with the first copy.
    assert all(len(part) > 3 for part in parts)


def test_what_was_found_is_handed_out_although_the_log_fails_right_after():
    log = Log(flights=[(0, 10)])
    enumerator, clock = enumerating(log)
    look(enumerator)
    log.topics["flights"].append((5, 9))
    log.ends_fail = 1
    assert look(enumerator) == {"flights-1": (5, None)}
    assert clock.slept == [30.0]


def test_no_checkpoint_knows_a_partition_that_is_not_handed_out_yet():
    log = Log(flights=[(0, 10)])
    enumerator, _ = enumerating(log)
    log.looked = lambda: seen.append(enumerator.snapshot()["partitions"])
    seen = []
    look(enumerator)
    log.topics["flights"].append((5, 9))
    look(enumerator)
    assert seen[-1] == [["flights", 0, 10, None]]
    assert len(enumerator.snapshot()["partitions"]) == 2


def gone_on(log, reading, before):
    """An enumerator that goes on from the checkpoint of one that read as `before` says."""
    first, _ = enumerating(log, before)
    look(first)
    second, clock = enumerating(log, reading)
    second.restore(first.snapshot())
    return second, clock


def test_a_topic_that_was_added_is_read_at_once_from_the_start_that_was_given():
    log = Log(flights=[(0, 10)], delays=[(2, 9), (0, 4)])
    second, clock = gone_on(log, replace(READING, topics=("flights", "delays")), READING)
    assert not second.complete
    assert look(second) == {"delays-0": (9, None), "delays-1": (4, None)}
    assert second.complete
    assert clock.slept == []
    # Those that come to it later are new ones, as always.
    log.topics["delays"].append((3, 5))
    assert look(second) == {"delays-2": (3, None)}


def test_a_bounded_source_with_a_topic_more_looks_once_more():
    log = Log(flights=[(0, 10)], delays=[(2, 9)])
    bounded = replace(READING, start="earliest", end="latest", every=None)
    second, _ = gone_on(log, replace(bounded, topics=("delays", "flights")), bounded)
    discovery = asyncio.run(second.discover())
    assert ([split.id for split in discovery.splits], discovery.final) == (["delays-0"], True)


def test_a_topic_that_was_removed_is_read_no_further(caplog):
    log = Log(flights=[(0, 10)], delays=[(2, 9)])
    second, _ = gone_on(log, READING, replace(READING, topics=("flights", "delays")))
    kept = [second.keeps(Split(f"{topic}-0", {"topic": topic})) for topic in ("flights", "delays")]
    assert kept == [True, False]
    assert second.snapshot()["partitions"] == [["flights", 0, 10, None]]
    assert "topic is no longer chosen" in caplog.text
    assert not look_once(second)


def look_once(enumerator):
    """The splits that it finds without waiting."""

    async def once():
        task = asyncio.ensure_future(enumerator.discover())
        for _ in range(20):
            await asyncio.sleep(0)
        return task.result().splits if task.done() and not task.cancel() else []

    return asyncio.run(once())


def test_a_topic_that_is_misspelt_is_found_when_the_job_goes_on():
    log = Log(flights=[(0, 10)])
    second, _ = gone_on(log, replace(READING, topics=("flights", "flihgts")), READING)
    with pytest.raises(SourceError, match="there is no topic 'flihgts'; did you mean 'flights'"):
        look(second)


def test_a_topic_that_was_read_and_is_missing_is_for_its_reader_to_report():
    log = Log(flights=[(0, 10)], delays=[(2, 9)])
    both = replace(READING, topics=("flights", "delays"))
    second, _ = gone_on(log, both, both)
    del log.topics["delays"]
    assert not look_once(second)


def test_another_pattern_reads_what_it_adds_from_the_start_and_drops_what_it_leaves_out():
    log = Log(flights_a=[(0, 10)], flights_b=[(0, 20)])
    a = replace(READING, topics=re.compile("flights_a"))
    second, _ = gone_on(log, replace(READING, topics=re.compile("flights_.*")), a)
    assert look(second) == {"flights_b-0": (20, None)}


def test_a_checkpoint_of_quite_other_topics_is_refused():
    log = Log(flights=[(0, 10)], delays=[(2, 9)])
    with pytest.raises(StateError, match="of a source that read flights, and this one reads delays"):
        gone_on(log, replace(READING, topics=("delays",)), READING)


def test_a_state_of_before_topics_were_kept_is_gone_on_from():
    log = Log(flights=[(0, 10)], delays=[(2, 9)])
    second, _ = enumerating(log, replace(READING, topics=("flights", "delays")))
    second.restore({"looked": True, "partitions": [["flights", 0, 3, None]]})
    assert look(second) == {"delays-0": (9, None)}


@pytest.mark.parametrize("end", [None, "latest"])
def test_an_offset_beyond_the_end_is_an_error_whether_or_not_the_source_ends(end):
    log = Log(flights=[(0, 10)])
    at = {TopicPartition("flights", 0): 11}
    reading = replace(READING, start=at, end=end, every=None if end else 30.0)
    with pytest.raises(
        SourceError, match=r"flights-0, offset 11: .* is beyond its end: the log ends at offset 10"
    ):
        look(enumerating(log, reading)[0])
    log.committed = at
    with pytest.raises(SourceError, match="beyond its end"):
        look(enumerating(log, replace(reading, start="committed", group="g"))[0])
    log.topics["flights"] = [(0, 11)]
    assert look(enumerating(log, reading)[0]) == {"flights-0": (11, None if end is None else 11)}


def test_a_partition_that_is_read_no_further_is_another_one_when_it_comes_again():
    """Its readers may be in other processes: what they say of splits is all that is known."""
    log = Log(flights=[(0, 10), (0, 20)])
    enumerator, _ = enumerating(log)
    assert look(enumerator).keys() == {"flights-0", "flights-1"}
    enumerator.unread(["flights-0", "flights-1"])
    assert len(enumerator.snapshot()["partitions"]) == 2
    enumerator.unread(["flights-1"])
    assert enumerator.snapshot()["partitions"] == [["flights", 1, 20, None]]
    log.topics["flights"] = [(3, 5), (0, 20)]
    assert look(enumerator) == {"flights-0": (3, None)}
    enumerator.unread(["flights-0", "flights-1"])
    assert len(enumerator.snapshot()["partitions"]) == 2


def test_what_has_been_read_to_the_end_it_was_given_is_not_read_again():
    log = Log(flights=[(0, 10)])
    enumerator, _ = enumerating(log, replace(READING, start="earliest", end="latest", every=None))
    assert look(enumerator) == {"flights-0": (0, 10)}
    enumerator.unread([])
    assert enumerator.snapshot()["partitions"] == [["flights", 0, 0, 10]]


class Identified(Log):
    id = "first"

    async def topic_ids(self, topics):
        return dict.fromkeys(topics, self.id)


def test_a_reader_in_another_process_does_not_go_on_in_a_topic_that_was_made_again():
    log = Identified(flights=[(0, 10)])
    [split] = asyncio.run(enumerating(log)[0].discover()).splits
    source = KafkaSource("flights", client=Readable(log), schema={"n": pl.Int64})
    for id, refused in (("first", False), ("second", True)):
        log.id = id
        worker = replace(source_context(), shared={})
        reader = source.reader(split, {"offset": 7}, worker)
        if refused:
            with pytest.raises(SourceError, match="topic 'flights' was deleted and made again"):
                asyncio.run(reader.fetch())
        else:
            asyncio.run(reader.fetch())


class Readable:
    """A client of a `Log` that has one chunk of every partition."""

    def __init__(self, log):
        self.log = log

    def metadata(self, *, client_id):
        return self.log

    def reader(self, *, client_id):
        return self

    def writer(self, **settings):
        raise NotImplementedError

    async def start(self):
        """Starts at once."""

    async def add(self, partition, offset):
        self.offset = offset

    async def fetch(self, partition, *, seconds, most):
        return Chunk(self.offset + 1)

    def end(self, partition):
        return self.offset + 1


@dataclass
class Chunk:
    next_offset: int
    nbytes: int = 10
