"""Messages as librdkafka hands them out: a log gives each offset once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import pytest

confluent_kafka = pytest.importorskip("confluent_kafka")

from streamflow.operators.connectors.kafka.clients.confluent import PartitionLog  # noqa: E402
from streamflow.operators.connectors.kafka.clients.port import TopicPartition  # noqa: E402


class Delivering:
    """A consumer that delivers these offsets, some at a time."""

    def __init__(self, came: Sequence[Sequence[int]]) -> None:
        self._came = [[message(offset) for offset in offsets] for offsets in came]

    def assign(self, places: object) -> None:
        pass

    def poll(self, seconds: float) -> object:
        return self._came[0].pop(0) if self._came else None

    def consume(self, most: int, seconds: float) -> list[object]:
        return self._came.pop(0) if self._came else []

    def get_watermark_offsets(self, place: object, *, cached: bool) -> tuple[int, int]:
        return 0, -1001


def message(offset: int) -> object:
    return confluent_kafka.Message(
        "t", 0, offset, b"k%d" % offset, b"%d" % offset, None, None, (1, 1_000 + offset)
    )


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
    ticks = iter(range(100))
    log = PartitionLog(Delivering(came), TopicPartition("t", 0), 3, lambda: next(ticks) / 10)
    chunks = [chunk for _ in came if (chunk := log.read(1.0, 100)) is not None]
    assert list(chain.from_iterable(chunk.offsets() for chunk in chunks)) == given
    assert list(chain.from_iterable(chunk.values() for chunk in chunks)) == [b"%d" % n for n in given]
    assert list(chain.from_iterable(chunk.keys() for chunk in chunks)) == [b"k%d" % n for n in given]
    assert list(chain.from_iterable(chunk.milliseconds() for chunk in chunks)) == [1_000 + n for n in given]
    if given:
        assert chunks[-1].next_offset == log.end == given[-1] + 1
