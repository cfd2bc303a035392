"""Sends batches of records to a broker byte by byte, as no client would."""

import asyncio

from aiokafka import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from tests.kafka.topics import Topics

__all__ = ["send"]


def send(kafka: Topics, topic: str, *batches: bytes, partition: int = 0) -> None:
    """Have the broker append batches; raises aiokafka's error for one that it refuses."""

    async def sending() -> None:
        client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
        await client.bootstrap()
        try:
            await client.set_topics([topic])
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            for batch in batches:
                request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
                answer = await client.send(node, request)
                code = answer.topics[0][1][0][1]
                if code:
                    raise for_code(code)(topic)
        finally:
            await client.close()

    asyncio.run(sending())
