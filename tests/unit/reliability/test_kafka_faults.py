"""The harness around Kafka has to notice what it is there for, and to break what it says it breaks."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from contextlib import asynccontextmanager

import polars as pl
import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("confluent_kafka")

from reliability.flow import events
from reliability.kafka.flow import ORDER, OUTPUTS, model
from reliability.kafka.frames import END_TXN, PRODUCE, end_txn_answer, framed, read_frame, request
from reliability.kafka.long_lived import LongLived
from reliability.kafka.points import OFTEN, POINTS
from reliability.kafka.poison import KINDS, ONE_IN, poisoned
from reliability.kafka.proxy import FAULTS, Proxy, Schedule
from reliability.kafka.verdict import compare
from reliability.kills import Orders

EXPECTED = model(events(400, 1))
OUTPUT = pytest.mark.parametrize("output", OUTPUTS)


def stored(rows: pl.DataFrame) -> pl.DataFrame:
    """As they lie in a topic: a key in one partition, in the rows' order."""
    partition = pl.col("key").str.strip_prefix("key-").cast(pl.Int64) % 4
    return rows.with_columns(partition=partition, offset=pl.int_range(pl.len()))


def judged(output: str, found: pl.DataFrame):
    return compare(output, found, EXPECTED[output], ORDER[output])


@OUTPUT
def test_what_is_as_it_should_be_is_right(output: str) -> None:
    assert judged(output, stored(EXPECTED[output])).right


@OUTPUT
def test_a_lost_record_is_noticed(output: str) -> None:
    verdict = judged(output, stored(EXPECTED[output][1:]))
    assert (verdict.lost, verdict.surplus, verdict.disordered) == (1, 0, 0)


@OUTPUT
def test_a_repeated_record_is_a_duplicate_and_not_out_of_order(output: str) -> None:
    rows = EXPECTED[output]
    verdict = judged(output, stored(pl.concat([rows, rows[:2]])))
    assert (verdict.lost, verdict.surplus, verdict.disordered) == (0, 2, 0)
    assert output in str(verdict)


@OUTPUT
def test_a_wrong_record_is_lost_and_surplus(output: str) -> None:
    last = EXPECTED[output].columns[-1]
    rows = EXPECTED[output].with_columns(pl.col(last) + (pl.int_range(pl.len()) == 3).cast(pl.Int64))
    assert (judged(output, stored(rows)).lost, judged(output, stored(rows)).surplus) == (1, 1)


@OUTPUT
def test_a_record_that_overtakes_another_of_its_key_is_noticed(output: str) -> None:
    key = EXPECTED[output].group_by("key").len().sort("len")["key"][-1]
    same = EXPECTED[output].filter(pl.col("key") == key)
    others = EXPECTED[output].filter(pl.col("key") != key)
    verdict = judged(output, stored(pl.concat([others, same[1:2], same[:1], same[2:]])))
    assert (verdict.lost, verdict.surplus, verdict.disordered) == (0, 0, 1)


@OUTPUT
def test_keys_may_come_between_one_another(output: str) -> None:
    assert judged(output, stored(EXPECTED[output].sort(ORDER[output], "key"))).right


def test_a_key_in_two_partitions_has_no_order() -> None:
    found = stored(EXPECTED["events"])
    key = found["key"][0]
    moved = found.with_columns(
        partition=pl.when((pl.col("key") == key) & (pl.col("id") > 200))
        .then(9)
        .otherwise(pl.col("partition"))
    )
    assert judged("events", moved).disordered == 1


def test_the_model_numbers_the_windows_of_each_key() -> None:
    windows = EXPECTED["windows"]
    assert windows["count"].sum() == 400
    for rows in windows.sort("start").partition_by("key"):
        assert rows["n"].to_list() == list(range(1, len(rows) + 1))


def test_every_point_is_in_the_orders_as_often_as_asked() -> None:
    orders = Orders(1, 3, 5, POINTS, OFTEN)
    points = [order.point for _ in range(len(orders)) if (order := orders.take())]
    assert Counter(point.name if point else None for point in points) == {
        None: 5,
        **dict.fromkeys(POINTS, 3),
    }


def test_poison_is_the_same_for_a_seed_and_of_every_kind() -> None:
    frame = events(10_000, 1)
    values, kinds, bad = poisoned(frame, random.Random(7))
    assert poisoned(frame, random.Random(7))[0] == values
    assert len(bad) == 10_000 // ONE_IN
    assert set(kinds.values()) == set(KINDS)
    assert all(values[number] == value for number, value in bad.items())
    good = [value for number, value in enumerate(values) if number not in bad]
    rows = pl.read_ndjson(b"\n".join(value.replace(b"\r\n\n", b"") for value in good))
    assert rows["id"].to_list() == [number for number in range(10_000) if number not in bad]


# The proxy.


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def classic(api: int, correlation: int, transaction: str, version: int = 0) -> bytes:
    return struct.pack(">hhi", api, version, correlation) + text("client") + text(transaction) + b"rest"


def test_the_transaction_is_read_from_old_and_new_requests() -> None:
    assert request(classic(END_TXN, 7, "job.sink")) == (END_TXN, 0, 7, "job.sink")
    assert request(classic(PRODUCE, 8, "job.sink", 7)).transaction == "job.sink"
    # Flexible: tagged fields behind the client's name, lengths as varints of one more.
    tags = b"\x01\x05\x02ab"
    flexible = struct.pack(">hhi", END_TXN, 4, 9) + text("client") + tags + b"\x09job.sink" + b"rest"
    assert request(flexible) == (END_TXN, 4, 9, "job.sink")
    none = struct.pack(">hhi", PRODUCE, 9, 1) + text("client") + b"\x00" + b"\x00"
    assert request(none).transaction is None
    assert request(classic(3, 1, "no transaction")).transaction is None


@pytest.mark.parametrize(("version", "between"), [(0, b""), (4, b"\x00")])
def test_the_answer_to_an_end_is_read(version: int, between: bytes) -> None:
    assert end_txn_answer(version, struct.pack(">i", 7) + between + struct.pack(">ih", 0, 47)) == 47


def test_a_schedule_repeats_and_keeps_to_its_share() -> None:
    def drawn(seed: int, share: float):
        schedule = Schedule(seed, share)
        return [schedule.fault() for _ in range(300)]

    assert drawn(3, 0.5) == drawn(3, 0.5) != drawn(4, 0.5)
    assert set(drawn(3, 0.0)) == {None}
    assert set(drawn(3, 1.0)) == set(FAULTS)


class Always(Schedule):
    """One fault, and what is late comes right behind the next write."""

    def __init__(self, fault) -> None:
        super().__init__(1, 1.0)
        self._always = fault

    def fault(self):
        return self._always

    def writes(self) -> int:
        return 1

    def pause(self) -> float:
        return 0.0


class Broker:
    """Writes down what arrives, and answers each request as the end of a transaction is answered."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, int]] = []
        self.news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (body := await read_frame(reader)) is not None:
            head = request(body)
            self.arrived.append((head.api, head.correlation))
            writer.write(framed(struct.pack(">iih", head.correlation, 0, 0)))
            self.news.set()
        writer.close()

    async def got(self, *expected: tuple[int, int]) -> None:
        async with asyncio.timeout(5):
            while self.arrived != list(expected):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def proxied(fault):
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with Proxy(0, server.sockets[0].getsockname()[1], Always(fault)) as proxy:
        yield proxy, broker
    server.close()


async def asked(proxy: Proxy, body: bytes) -> bytes | None:
    """The answer on a connection of its own; None where it was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(framed(body))
        return await read_frame(reader)
    finally:
        writer.close()


END, WRITE, OTHER = classic(END_TXN, 1, "t"), classic(PRODUCE, 2, "t", 7), classic(PRODUCE, 3, "another", 7)


def test_without_a_fault_everything_passes() -> None:
    async def run() -> None:
        async with proxied(None) as (proxy, broker):
            assert await asked(proxy, END) is not None
            assert await asked(proxy, WRITE) is not None
            await broker.got((END_TXN, 1), (PRODUCE, 2))
            assert not proxy.faults

    asyncio.run(run())


def test_an_end_that_is_held_comes_behind_the_next_write_of_its_transaction() -> None:
    async def run() -> None:
        async with proxied("held") as (proxy, broker):
            assert await asked(proxy, END) is None
            assert await asked(proxy, OTHER) is not None
            assert await asked(proxy, WRITE) is not None
            await broker.got((PRODUCE, 3), (PRODUCE, 2), (END_TXN, 1))
            assert proxy.faults == {"held": 1}

    asyncio.run(run())


def test_an_end_that_is_cut_is_carried_out_and_not_answered() -> None:
    async def run() -> None:
        async with proxied("cut") as (proxy, broker):
            assert await asked(proxy, END) is None
            await broker.got((END_TXN, 1))

    asyncio.run(run())


def test_an_end_that_is_repeated_is_answered_and_comes_again() -> None:
    async def run() -> None:
        async with proxied("repeated") as (proxy, broker):
            assert await asked(proxy, END) is not None
            assert await asked(proxy, WRITE) is not None
            await broker.got((END_TXN, 1), (PRODUCE, 2), (END_TXN, 1))
            async with asyncio.timeout(5):
                while not proxy.late:  # noqa: ASYNC110 — nobody else tells
                    await asyncio.sleep(0)
            assert proxy.late == {"accepted": 1}

    asyncio.run(run())


# The canary's producer.


class Producer:
    def __init__(self, made: list[Producer]) -> None:
        self.calls: list[str] = []
        made.append(self)

    def __getattr__(self, name: str):
        async def call(*_: object) -> None:
            self.calls.append(name)

        return call


class Client:
    def __init__(self) -> None:
        self.made: list[Producer] = []

    def writer(self, **_: object) -> Producer:
        return Producer(self.made)


def test_the_long_lived_producer_starts_once_and_is_closed_only_after_a_failure() -> None:
    async def transaction(client: LongLived, *, fails: bool = False) -> None:
        writer = client.writer(client_id="c", transactional_id="t", transaction_timeout=1, compression=None)
        await writer.start()
        await writer.begin()
        if not fails:
            await writer.commit()
        await writer.close()

    async def run() -> None:
        inner = Client()
        client = LongLived(inner)  # type: ignore[arg-type]
        await transaction(client)
        await transaction(client, fails=True)
        await transaction(client)
        assert [producer.calls for producer in inner.made] == [
            ["start", "begin", "commit", "begin", "close"],
            [],
            ["start", "begin", "commit"],
        ]

    asyncio.run(run())
