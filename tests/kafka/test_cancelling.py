"""Whoever is cancelled while a connection opens or closes is cancelled, and leaves no connection behind."""

import asyncio
import weakref

import pytest
from aiokafka.conn import AIOKafkaConnection

from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.security import KafkaSecurity

WHAT = ["metadata", "reader", "writer", "transactional writer"]


def connection(kafka, what):
    client = Cluster(kafka.bootstrap, KafkaSecurity()).client("aiokafka")
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


@pytest.mark.parametrize("what", WHAT)
def test_a_cancel_that_comes_while_a_connection_opens_leaves_none_open(kafka, what, monkeypatch):
    connections = weakref.WeakSet()
    waits_for = {}
    send = AIOKafkaConnection.send

    def counted(self, request, *args, **options):
        connections.add(self)
        waits_for["answers"] -= 1
        if not waits_for["answers"]:
            asyncio.get_running_loop().call_soon(waits_for["task"].cancel)
        return send(self, request, *args, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", counted)

    async def cancelled(request):
        opened = connection(kafka, what)
        waits_for.update(answers=request, task=asyncio.create_task(opened.start()))
        await asyncio.gather(waits_for["task"], return_exceptions=True)
        await opened.close()
        assert not [each for each in connections if each.connected()]
        return waits_for["task"].cancelled()

    async def whole():
        return [await cancelled(request) for request in range(1, 4)]

    assert asyncio.run(whole())[:2] == [True, True]
