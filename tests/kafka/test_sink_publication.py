"""An epoch is public exactly once, wherever its run dies: a test for each window of docs/kafka-delivery.md."""

import asyncio
import json
from dataclasses import replace

import pytest

from streamflow.errors import SinkError
from streamflow.operators.connectors.kafka.clients.port import OutcomeUnknownError
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.sink import KafkaSink
from tests.kafka.epochs import POINTS, CrashError, Run, Stopped


@pytest.fixture
def sink(kafka):
    return KafkaSink(kafka.topic(3), kafka.bootstrap, key="k", transaction_timeout="20s", patience="20s")


def published(kafka, sink):
    """The numbers that are public, of each key in its order; fails where a key's order is broken."""
    by_key = {}
    for record in kafka.read(sink.topic):
        by_key.setdefault(record.key, []).append(json.loads(record.value)["n"])
    for key, numbers in by_key.items():
        assert numbers == sorted(numbers), f"{key}: {numbers}"
    return sorted(n for numbers in by_key.values() for n in numbers)


async def first_epoch(sink, line="line"):
    async with Run(sink, line=line) as run:
        await run.committer.begin()
        await run.epoch(1, *range(10))


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_dies_while_it_restores(kafka, sink, point):
    async def scenario():
        async with Run(sink) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            sealed = await run.seal(2, *range(10, 20))
        async with Run(sink, restored=2, parent=1, crash_at=point) as run:
            with pytest.raises(CrashError):
                await run.committer.restore(2, sealed)
        async with Run(sink, restored=2, parent=1) as run:
            await run.committer.restore(2, sealed)
            await run.epoch(3, *range(20, 30))

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(30))


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_dies_in_the_middle_of_its_life(kafka, sink, point):
    async def scenario():
        dead = False

        def reach(at):
            if dead and at == point:
                raise CrashError(at)

        async with Run(sink, reach=reach) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            dead = True
            sealed = await run.seal(2, *range(10, 20))
            with pytest.raises(CrashError):
                await run.committer.commit(2, sealed)
        async with Run(sink, restored=2, parent=1) as run:
            await run.committer.restore(2, sealed)
            await run.epoch(3, *range(20, 30))

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(30))


def test_a_run_that_dies_before_its_checkpoint_leaves_nothing(kafka, sink):
    async def scenario():
        async with Run(sink) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            await run.seal(2, *range(10, 20))
        async with Run(sink, restored=1, parent=0) as run:
            await run.committer.restore(1, await empty(run, 1, *range(10)))
            await run.epoch(3, *range(10, 20))

    async def empty(run, epoch, *numbers):
        return await run.seal(epoch, *numbers)

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(20))


@pytest.mark.parametrize("point", ["kafka.marker_read", "kafka.begun", "kafka.sent", "kafka.committed"])
def test_a_zombie_that_wakes_while_it_publishes(kafka, sink, point):
    """SIGSTOP at the point; another run restores, publishes and goes on; SIGCONT."""
    stopped = Stopped(point)
    sealed = []

    async def zombie():
        begun = []

        def reach(at):
            if begun:
                stopped.reach(at)

        async with Run(sink, restored=1, parent=0, reach=reach) as run:
            await run.committer.restore(1, [])
            sealed.extend(await run.seal(2, *range(10, 20)))
            begun.append(True)
            await run.committer.commit(2, sealed)

    async def successor():
        async with Run(sink, restored=2, parent=1) as run:
            await run.committer.restore(2, sealed)
            await run.epoch(3, *range(20, 30))

    asyncio.run(first_epoch(sink))
    stopped.start(zombie)
    asyncio.run(successor())
    error = stopped.go_on()
    assert published(kafka, sink) == list(range(30))
    if point == "kafka.committed":
        assert error is None
    else:
        assert isinstance(error, SinkError)
        assert "another run" in str(error)


def test_a_zombie_that_wakes_before_it_publishes(kafka, sink):
    async def scenario():
        async with Run(sink) as zombie:
            await zombie.committer.begin()
            await zombie.epoch(1, *range(10))
            sealed = await zombie.seal(2, *range(10, 20))
            async with Run(sink, restored=2, parent=1) as run:
                await run.committer.restore(2, sealed)
                # It finds its own epoch public, whoever did that: it is the same content.
                await zombie.committer.commit(2, sealed)
                late = await zombie.seal(3, *range(20, 30))
                # The zombie has fenced it, which costs an attempt and nothing else.
                await run.epoch(4, *range(20, 30))
                with pytest.raises(SinkError, match="another run"):
                    await zombie.committer.commit(3, late)
                await run.epoch(5, *range(30, 40))

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(40))


def test_two_committers_of_one_run_take_turns(kafka, sink):
    """Nothing keeps them apart: one of them is told at the first epoch, before anything is doubled."""

    async def scenario():
        await first_epoch(sink)
        async with Run(sink, restored=1, parent=0) as one, Run(sink, restored=1, parent=0) as other:
            await one.committer.restore(1, [])
            await other.committer.restore(1, [])
            await one.epoch(2, *range(10, 20))
            with pytest.raises(SinkError, match="another run"):
                await other.epoch(2, *range(10, 15))
            await one.epoch(3, *range(20, 30))

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(30))


class Faulty:
    """A client whose first `times` transactions end without an answer, carried out or not."""

    def __init__(self, client, *, carried_out, times=1):
        self._client = client
        self._carried_out = carried_out
        self._left = times
        self.armed = False

    def __getattr__(self, name):
        return getattr(self._client, name)

    def writer(self, **settings):
        writer = self._client.writer(**settings)
        if self.armed and self._left:
            self._left -= 1
            commit = writer.commit

            async def unanswered():
                if self._carried_out:
                    await commit()
                raise OutcomeUnknownError("no answer")

            writer.commit = unanswered
        return writer


@pytest.mark.parametrize("carried_out", [True, False])
def test_an_end_of_a_transaction_without_an_answer(kafka, sink, carried_out):
    client = Faulty(Cluster(kafka.bootstrap).client(), carried_out=carried_out)

    async def scenario():
        async with Run(replace(sink, client=client)) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            client.armed = True
            await run.epoch(2, *range(10, 20))
            await run.epoch(3, *range(20, 30))
            assert run.context.metrics.value_of("streamflow_publication_retries_total") >= 1

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(30))


def test_without_checkpoints_an_unknown_outcome_is_an_error(kafka, sink):
    client = Faulty(Cluster(kafka.bootstrap).client(), carried_out=True, times=2)
    client.armed = True

    async def scenario():
        async with Run(replace(sink, client=client), checkpointed=False) as run:
            with pytest.raises(SinkError, match="it is unknown whether epoch 1"):
                await run.epoch(1, *range(10))

    asyncio.run(scenario())


def test_without_checkpoints_there_is_no_progress_topic(kafka, sink):
    async def scenario():
        async with Run(sink, checkpointed=False) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            await run.epoch(2)
            await run.epoch(3, *range(10, 20))
            assert "kafka.marker_read" not in run.reached

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(20))


def test_an_epoch_without_records_leaves_the_marker(kafka, sink):
    async def scenario():
        async with Run(sink) as run:
            await run.committer.begin()
            run.reached.clear()
            await run.epoch(1)
            await run.epoch(2)
            assert "kafka.begun" not in run.reached
        async with Run(sink, restored=2, parent=1) as run:
            await run.committer.restore(2, await run.seal(2))
            assert "kafka.begun" not in run.reached

    asyncio.run(scenario())
    assert published(kafka, sink) == []


def test_output_ahead_of_the_checkpoint(kafka, sink):
    async def scenario():
        async with Run(sink) as run:
            await run.committer.begin()
            await run.epoch(1, *range(10))
            two = await run.seal(2, *range(10, 20))
            await run.committer.commit(2, two)
            await run.epoch(3, *range(20, 30))
        async with Run(sink, restored=2, parent=1) as run:
            with pytest.raises(SinkError, match="epoch 3 is public, but the checkpoint"):
                await run.committer.restore(2, two)
        async with Run(sink, restored=2, parent=1, allow_duplicates=True) as run:
            await run.committer.restore(2, [])
            await run.epoch(4, *range(20, 30))
        async with Run(sink, restored=4, parent=2) as run:
            await run.committer.restore(4, [])

    asyncio.run(scenario())
    numbers = sorted(json.loads(record.value)["n"] for record in kafka.read(sink.topic))
    assert numbers == sorted([*range(30), *range(20, 30)])


def test_output_of_another_line_of_runs(kafka, sink):
    async def scenario():
        async with Run(sink, line="old") as old:
            await old.committer.begin()
            sealed = await old.seal(1, *range(10))
            await old.committer.commit(1, sealed)
            async with Run(sink, line="new") as new:
                await new.committer.begin()
                with pytest.raises(SinkError, match="another run"):
                    await old.epoch(2, 10)
        async with Run(sink, line="old", restored=1, parent=0) as run:
            with pytest.raises(SinkError, match="another line of runs"):
                await run.committer.restore(1, sealed)

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(10))


def test_markers_that_are_gone(kafka, sink):
    async def scenario():
        async with Run(sink, job=sink.topic + "-elsewhere") as run:
            sealed = await run.seal(2, *range(10))
        async with Run(sink, restored=2, parent=1) as run:
            with pytest.raises(SinkError, match="lost records that it had acknowledged"):
                await run.committer.restore(2, sealed)
        async with Run(sink, restored=2, parent=1, allow_duplicates=True) as run:
            await run.committer.restore(2, sealed)

    asyncio.run(scenario())
    assert published(kafka, sink) == list(range(10))


@pytest.mark.blocks_the_loop  # the hash of a key of megabytes
def test_a_record_that_the_broker_refuses_makes_nothing_of_the_epoch_public(kafka):
    topic = kafka.topic(1)
    sink = KafkaSink(topic, kafka.bootstrap, key="k", max_record_bytes="4MiB", compression=None)

    async def scenario():
        async with Run(sink) as run:
            await run.committer.begin()
            await run.epoch(1, 1)
            # As if the topic's limit had been lowered after the record was sealed.
            output = run.writer._output  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            limits, assign = await output.ready()
            output._found = replace(limits, record_bytes=4 << 20), assign
            await run.writer.write(big(2))
            sealed = await run.seal(2, 3)
            with pytest.raises(SinkError, match="larger than the topic takes") as caught:
                await run.committer.commit(2, sealed)
            assert "max.message.bytes" in str(caught.value)

    asyncio.run(scenario())
    # Aborted, not left open: readers of committed records go on.
    kafka.produce(topic, [(None, b'{"n":9}')])
    assert [json.loads(record.value)["n"] for record in kafka.read(topic)] == [1, 9]


def big(number):
    import polars as pl

    from streamflow.core.frame import FrameBatch

    # More than the broker's 1 MiB.
    return FrameBatch(pl.DataFrame({"k": ["x" * 1_500_000], "n": [number]}))
