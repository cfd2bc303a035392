"""A database's changes on a real broker: totals that follow them, a table to join with, and what cannot be read."""

import json
from random import Random

import pytest

import streamflow as sf
from streamflow.errors import RecordError

MODES = ["streaming", "micro-batch", "batch"]
COLUMNS = {"id": sf.Int64, "shelf": sf.String, "price": sf.Int64}


def database(changes, seed):
    """(Debezium's records, the table that they lead to)."""
    random, table, records = Random(seed), {}, []
    for _ in range(changes):
        id = random.randrange(20)
        before = table.get(id)
        after = None
        if before is None or random.random() < 0.7:
            after = {"id": id, "shelf": random.choice("abc"), "price": random.randrange(100)}
        op = "d" if after is None else "u" if before else random.choice("cr")
        records.append((id, {"op": op, "before": before, "after": after, "source": {"table": "items"}}))
        if after is None:
            # A connector sends a tombstone behind a deletion.
            records.append((id, None))
            del table[id]
        else:
            table[id] = after
    return records, table


@pytest.fixture(params=[False, True], ids=["bare", "with its schema"])
def items(kafka, request):
    """A topic of changes, and the table that they lead to."""
    topic = kafka.topic(2)
    records, table = database(600, seed=7)
    sent = []
    for id, change in records:
        payload = {"schema": {"type": "struct"}, "payload": change} if request.param else change
        value = None if change is None else json.dumps(payload)
        sent.append((str(id), value, id % 2))
    kafka.produce(topic, sent)
    return sf.KafkaSource(topic, kafka.bootstrap, format="debezium", schema=COLUMNS, end="latest"), table


@pytest.mark.parametrize("mode", MODES)
def test_totals_and_a_table_follow_a_database(items, mode):
    source, table = items
    job = sf.Job("shelves")
    changes = job.read(source)
    by_shelf = changes.key_by("shelf").aggregate(n=sf.count(), worth=sf.sum("price"), top=sf.max("price"))
    totals = by_shelf.collect()
    now = changes.to_table("id").changes().collect()
    job.run(mode=mode, parallelism=2, batch_rows=50)
    last = {row["shelf"]: (row["n"], row["worth"], row["top"]) for row in totals.rows()}
    prices = {}
    for row in table.values():
        prices.setdefault(row["shelf"], []).append(row["price"])
    assert last == {shelf: (len(some), sum(some), max(some)) for shelf, some in prices.items()}
    stands = {}
    for row in now.rows():
        if row["change"] in ("insert", "update_after"):
            stands[row["id"]] = {name: row[name] for name in COLUMNS}
        else:
            del stands[row["id"]]
    assert stands == table


def test_a_stream_joins_the_database_as_it_is_now(items):
    source, table = items
    job = sf.Job("asked")
    asked = job.read(sf.MemorySource([{"id": id} for id in range(22)]))
    found = asked.join(job.table(source, key="id"), how="left").collect()
    job.run()
    assert {row["id"]: row["price"] for row in found.rows()} == {
        id: table.get(id, {}).get("price") for id in range(22)
    }


def test_an_update_without_the_row_before_tells_what_the_database_is_to_send(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [(b"1", b'{"op":"u","before":null,"after":{"id":1,"shelf":"a","price":2}}')])
    job = sf.Job("narrow")
    job.read(
        sf.KafkaSource(topic, kafka.bootstrap, format="debezium", schema=COLUMNS, end="latest")
    ).collect()
    with pytest.raises(RecordError, match=r"offset 0: op 'u' without 'before' \(PostgreSQL gives it with"):
        job.run()
