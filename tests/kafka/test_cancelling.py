"""Cancellation while a connection opens or closes: it ends the task, and leaves no connection behind."""

import asyncio
import weakref

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.conn import AIOKafkaConnection

from streamflow.operators.connectors.kafka.clients.aiokafka.connection import closed, connect
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster, KafkaSecurity
from streamflow.operators.connectors.kafka.instance_group import InstanceGroup

WHAT = ["metadata", "reader", "writer", "transactional writer"]


def cluster(kafka):
    return Cluster(kafka.bootstrap, KafkaSecurity())


def metadata(kafka):
    return cluster(kafka).client("aiokafka").metadata(client_id="test")


def connection(kafka, what):
    client = cluster(kafka).client("aiokafka")
    if not what.endswith("writer"):
        return getattr(client, what)(client_id="test")
    id = kafka.name() if what == "transactional writer" else None
    return client.writer(
        client_id="test", transactional_id=id, transaction_timeout=5_000_000, compression=None
    )


@pytest.mark.parametrize("what", WHAT)
def test_a_cancel_that_comes_while_a_connection_closes_is_heeded(kafka, what):
    async def cancelled(after):
        opened = connection(kafka, what)
        await opened.start()
        closing = asyncio.create_task(opened.close())
        for _ in range(after):
            await asyncio.sleep(0)
        if closing.done():
            return None
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        return closing.cancelled()

    async def whole():
        return [await cancelled(after) for after in range(1, 8)]

    found = asyncio.run(whole())
    assert True in found
    assert False not in found


@pytest.mark.parametrize("after", range(1, 8))
def test_what_is_being_opened_while_a_client_closes_is_closed_too(kafka, after):
    async def left_open():
        client = await connect(cluster(kafka), "test", patience=10)
        node = next(iter(client.cluster.brokers())).nodeId
        opening = asyncio.create_task(client.ready(node, group=ConnectionGroup.COORDINATION))
        for _ in range(after):
            await asyncio.sleep(0)
        await closed(client)
        await asyncio.gather(opening, return_exceptions=True)
        late = await client.ready(node, group=ConnectionGroup.DEFAULT)
        return late, [each for each in client._conns.values() if each.connected()]

    assert asyncio.run(left_open()) == (False, [])


class Connections:
    """All that were made, and who is cancelled with which request."""

    def __init__(self):
        self._made = weakref.WeakSet()
        self._task, self._requests = None, 0

    @property
    def open(self):
        return [each for each in self._made if each.connected()]

    async def cancel(self, call, request):
        """Whether the call was cancelled when it made its `request`-th request, from 1."""
        self._requests = request
        self._task = asyncio.create_task(call)
        await asyncio.gather(self._task, return_exceptions=True)
        return self._task.cancelled()

    def sends(self, connection):
        self._made.add(connection)
        self._requests -= 1
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._task.cancel)


@pytest.fixture
def connections(monkeypatch):
    made, send = Connections(), AIOKafkaConnection.send

    def counted(self, request, *args, **options):
        made.sends(self)
        return send(self, request, *args, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", counted)
    return made


@pytest.mark.parametrize("what", WHAT)
def test_a_cancel_that_comes_while_a_connection_opens_leaves_none_open(kafka, what, connections):
    async def cancelled(request):
        opened = connection(kafka, what)
        found = await connections.cancel(opened.start(), request)
        await opened.close()
        assert not connections.open
        return found

    async def whole():
        return [await cancelled(request) for request in range(1, 4)]

    assert asyncio.run(whole())[:2] == [True, True]


def test_a_cancel_that_comes_while_a_topic_is_made_leaves_none_open(kafka, connections):
    async def cancelled(request):
        opened = metadata(kafka)
        await opened.start()
        found = await connections.cancel(opened.create_topic(kafka.name(), partitions=1), request)
        await opened.close()
        assert not connections.open
        return found

    async def whole():
        return [await cancelled(request) for request in range(1, 6)]

    assert asyncio.run(whole()) == [True] * 5


def test_a_cancel_that_comes_while_copies_agree_leaves_none_open(kafka, connections):
    async def cancelled(job, request):
        group = InstanceGroup(cluster(kafka), cluster(kafka).client("aiokafka"), job, 2)
        found = await connections.cancel(group.take(), request)
        await group.close()
        assert not connections.open
        return found

    async def whole():
        job = kafka.name()
        return [await cancelled(job, request) for request in range(1, 16)]

    assert asyncio.run(whole())[:10] == [True] * 10


@pytest.mark.parametrize("what", ["partitions", "offsets"])
def test_what_closes_while_it_is_asked_leaves_none_open_and_nobody_waiting(kafka, connections, what):
    topic = kafka.topic(1)

    async def asked(turns):
        opened = metadata(kafka)
        await opened.start()
        call = (
            opened.partitions([topic])
            if what == "partitions"
            else opened.offsets([TopicPartition(topic, 0)], "latest")
        )
        asking = asyncio.create_task(call)
        for _ in range(turns):
            await asyncio.sleep(0)
        early = not asking.done()
        await opened.close()
        async with asyncio.timeout(20):
            await asyncio.gather(asking, return_exceptions=True)
        assert not connections.open
        return early

    async def whole():
        return [await asked(turns) for turns in range(1, 30)]

    assert any(asyncio.run(whole()))
