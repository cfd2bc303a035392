"""Whoever is cancelled while a connection closes is cancelled: a job that is told to end at once ends."""

import asyncio

import pytest

from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.security import KafkaSecurity


@pytest.mark.parametrize("what", ["metadata", "reader", "writer"])
def test_a_cancel_that_comes_while_a_connection_closes_is_heeded(kafka, what):
    client = Cluster(kafka.bootstrap, KafkaSecurity()).client("aiokafka")
    options = {"transactional_id": None, "transaction_timeout": 5_000_000, "compression": None}

    async def cancelled(after):
        connection = getattr(client, what)(client_id="test", **(options if what == "writer" else {}))
        await connection.start()
        closing = asyncio.create_task(connection.close())
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
