"""Copies of one program that share a topic: by number, and as they agree among themselves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.operators.connectors.kafka.instance_group import assigned
from tests.kafka.topics import Topics


def _job(kafka: Topics, name: str, source: str, target: str) -> sf.Job:
    """Running totals per key, which only come out right where every record was counted once."""
    job = sf.Job(name)
    read = sf.KafkaSource(
        source, kafka.bootstrap, schema={"k": sf.String, "n": sf.Int64}, discover_every=None
    )
    totals = job.read(read).key_by("k").aggregate(n=sf.count())
    totals.write(sf.KafkaSink(target, kafka.bootstrap, key="k"))
    return job


def _feed(kafka: Topics, topic: str, numbers: range) -> None:
    """A key is in one partition only, as copies that keep state by key need it."""
    kafka.produce(topic, [(None, json.dumps({"k": f"k{n % 8}", "n": n}).encode(), n % 4) for n in numbers])


def _totals(kafka: Topics, topic: str) -> dict[str, int]:
    """The last total of each key; AssertionError where one was said twice."""
    said = [json.loads(record.value or b"") for record in kafka.read(topic)]
    inserts = Counter((row["k"], row["n"]) for row in said if row["change"] in ("insert", "update_after"))
    assert not [row for row, times in inserts.items() if times > 1]
    return {key: max(n for k, n in inserts if k == key) for key, _ in inserts}


async def _eventually(true: Callable[[], bool], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 — the broker tells nobody
            await asyncio.sleep(0.02)


def _settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "mode": "streaming",
        "state_backend": "memory",
        "checkpoint_dir": folder,
        "checkpoint_interval": "100ms",
        **more,
    }


def test_copies_with_numbers_read_all_partitions_between_them(kafka: Topics, tmp_path: Path) -> None:
    source, target = kafka.topic(4), kafka.topic(1)
    _feed(kafka, source, range(400))

    async def both() -> None:
        job = _job(kafka, f"copies-{source}", source, target)
        handles = [
            await job.start(**_settings(tmp_path, instance=f"{number}/2", restore="latest"))
            for number in (1, 2)
        ]
        await _eventually(lambda: sum(handle.status().records_read for handle in handles) == 400)
        assert {handle.status().records_read for handle in handles} == {200}
        await asyncio.gather(*(handle.stop() for handle in handles))

    asyncio.run(both())
    assert _totals(kafka, target) == {f"k{k}": 50 for k in range(8)}


def test_copies_agree_on_their_shares_and_take_over(kafka: Topics, tmp_path: Path) -> None:
    """Two copies run, a third stands by. One is killed without a word; the third goes on where it was."""
    source, target = kafka.topic(4), kafka.topic(1)
    _feed(kafka, source, range(400))
    job = _job(kafka, f"group-{source}", source, target)

    def start() -> Awaitable[Any]:
        return job.start(**_settings(tmp_path, instance="group/2"))

    async def story() -> None:
        first, second = await asyncio.gather(start(), start())
        standby = asyncio.ensure_future(start())
        await _eventually(lambda: first.status().records_read + second.status().records_read == 400)
        assert not standby.done()
        assert first.status().restarts == second.status().restarts == 0
        await first.checkpoint()
        await first.cancel()
        third = await asyncio.wait_for(standby, 90)
        _feed(kafka, source, range(400, 800))
        done = second.status().records_read
        await _eventually(lambda: third.status().records_read + second.status().records_read - done >= 400)
        assert third.status().records_read == 200, "it went on behind what the first had read"
        await asyncio.gather(second.stop(), third.stop())

    asyncio.run(story())
    assert _totals(kafka, target) == {f"k{k}": 100 for k in range(8)}


def test_another_number_of_copies_is_refused(kafka: Topics, tmp_path: Path) -> None:
    source, target = kafka.topic(4), kafka.topic(1)
    job = _job(kafka, f"number-{source}", source, target)

    async def one(instance: str) -> None:
        handle = await job.start(**_settings(tmp_path, instance=instance))
        await handle.stop()

    asyncio.run(one("group/2"))
    with pytest.raises(sf.SourceError, match="in 2, not in 3 parts"):
        asyncio.run(one("group/3"))


def test_what_copies_cannot_share_is_refused(tmp_path: Path) -> None:
    job = sf.Job("alone")
    job.read(sf.MemorySource([{"n": 1}])).collect()
    with pytest.raises(sf.JobDefinitionError, match="each copy would read all of MemorySource"):
        job.run(instance="1/2")


def test_copies_that_agree_need_checkpoints(kafka: Topics) -> None:
    with pytest.raises(sf.ConfigError, match="take over from each other"):
        _job(kafka, "unsafe", "a", "b").run(instance="group/2")


@given(
    st.integers(1, 6),
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.none() | st.integers(-1, 8), max_size=8),
)
def test_shares_stay_where_they_are_and_none_is_held_twice(shares: int, held: dict[str, int | None]) -> None:
    given_to = assigned(shares, held)
    assert sorted(set(given_to.values())) == sorted(given_to.values())
    assert len(given_to) == min(shares, len(held))
    for member, share in given_to.items():
        assert 0 <= share < shares
        mine = held[member]
        if mine is not None and 0 <= mine < shares and list(held.values()).count(mine) == 1:
            assert share == mine
