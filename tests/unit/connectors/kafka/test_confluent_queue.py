"""Messages as librdkafka hands them out: a queue gives each offset once."""

from __future__ import annotations

import pytest

confluent_kafka = pytest.importorskip("confluent_kafka")

from streamflow.operators.connectors.kafka.clients.confluent.chunk import MessageChunk  # noqa: E402
from streamflow.operators.connectors.kafka.clients.confluent.queue import MessageQueue  # noqa: E402


def chunk_from(reached: int, *offsets: int) -> MessageChunk:
    made = MessageChunk(reached)
    made.add(
        [
            confluent_kafka.Message(
                "t", 0, offset, b"k%d" % offset, b"%d" % offset, None, None, (1, 1_000 + offset)
            )
            for offset in offsets
        ]
    )
    return made


@pytest.mark.parametrize(
    ("came", "given"),
    [
        ([[3, 4, 5]], [3, 4, 5]),
        ([[3, 4], [4], [5]], [3, 4, 5]),
        ([[3, 4, 4, 5]], [3, 4, 5]),
        ([[3, 5], [4, 5, 6]], [3, 5, 6]),
        ([[2, 3]], [3]),
        ([[1, 2]], []),
    ],
)
def test_what_comes_again_is_left_out(came: list[list[int]], given: list[int]) -> None:
    queue = MessageQueue(3)
    for offsets in came:
        queue.put(chunk_from(queue.reached, *offsets))
    chunk = queue.take(None)
    if not given:
        assert chunk is None
        return
    assert chunk is not None
    assert chunk.offsets() == given
    assert chunk.values() == [b"%d" % offset for offset in given]
    assert chunk.keys() == [b"k%d" % offset for offset in given]
    assert chunk.milliseconds() == [1_000 + offset for offset in given]
    assert chunk.next_offset == given[-1] + 1
