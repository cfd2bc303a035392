"""Keys in the frame store: what is looked up, put and appended in any order is what a dict of lists would have."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.core.keys import key_hashes
from streamflow.core.serde import pack, unpack
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.frames import division, merging, parts, runs
from streamflow.state.frames import store as stores
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.key_hashes import KeyHashes, distinct_keys
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.memory_share import MemoryPool, MemoryShare
from streamflow.state.operator_snapshot import StatePart

KEYS = OwnedKeys(("k",), range(128), 128)
SCHEMA = {"k": pl.String, "n": pl.Int64}
Model = dict[int, dict[str | None, list[int]]]


@pytest.fixture(params=[0, 2_048])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are gone over one by one, many by a query; here both by a query too."""
    monkeypatch.setattr(merging, "_FEW", request.param)


both_ways = pytest.mark.usefixtures("few")
"""For tests of few rows: stores of many are gone over by a query anyway."""


def together(frame: pl.DataFrame) -> pl.DataFrame:
    """The numbers of a key as one row with their sum."""
    return frame.group_by("k", maintain_order=True).agg(pl.col("n").sum())


def store_of(budget: int, *, merged: bool, backend: MemoryBackend, sorting: bool = False) -> FrameStore:
    merge = together if merged else merging.as_they_are
    return FrameStore(
        backend, "op-1", merge, budget, KEYS, replacing=True, sorting=sorting, repeated=not merged
    )


def keys_of(keys: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"k": keys}, schema={"k": pl.String})


def put(store: FrameStore, pane: int, keys: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Replaces the rows of keys by others."""
    old = store.look_up(pane, keys)
    if old is not None:
        store.remove(pane, old)
    store.append(pane, rows)


def expected(model: Model, pane: int, keys: Any, *, merged: bool) -> list[tuple[str | None, int]]:
    has = model.get(pane, {})
    rows = [(key, n) for key in sorted(set(keys), key=repr) for n in has.get(key, ())]
    if not merged:
        return rows
    return [(key, sum(has[key])) for key in sorted(set(keys), key=repr) if has.get(key)]


def found(frame: pl.DataFrame | None) -> list[tuple[str | None, int]]:
    return [] if frame is None else sorted(frame.rows(), key=lambda row: repr(row[0]))


_keys = st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), max_size=5)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "put", "look up", "read", "restore"]),
        st.integers(0, 1),
        _keys,
        st.integers(1, 3),
    ),
    max_size=30,
)


@both_ways
@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("budget", [1, 3_000, 1 << 30])
@settings(max_examples=40)
@given(steps=_steps)
def test_any_steps_leave_what_a_dict_of_lists_would_have(
    budget: int, merged: bool, steps: list[tuple[str, int, list[str | None], int]]
) -> None:
    check_steps(budget, steps, merged=merged)


@both_ways
@pytest.mark.parametrize("budget", [3_000, 1 << 30])
@settings(max_examples=40)
@given(steps=_steps, searched=st.sampled_from([0, 64]), per_part=st.sampled_from([0, 256]))
def test_a_few_rows_may_be_many(
    budget: int, steps: list[tuple[str, int, list[str | None], int]], searched: int, per_part: int
) -> None:
    """Panes are divided, rows are sorted when they come, and looked up by their hashes; where few keys count as many
    (`per_part`), in one part after the other."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name, few in [
            (stores, "_SORTED_AT_ONCE", 2),
            (division, "_LOOKED_UP", 3),
            (division, "_BATCHES", 0),
            (stores, "TAIL_ROWS", 4),
            (parts, "_MANY_PER_PART", per_part),
            (stores, "_RUNS", 2),
            (runs, "_GONE_OVER", 0),
            (runs, "_COMPARED", 2),
            (runs, "_MANY", 0),
            (runs, "_MANY_OF_SMALL", 0),
            (runs, "_SEARCHED", searched),
            (parts, "_LOOKED_UP_ROWS", 3),
        ]:
            patched.setattr(module, name, few)
        check_steps(budget, steps, merged=False, sorting=True)


def test_a_pane_is_divided_when_batches_are_small_beside_it() -> None:
    """Else each of its many parts would be merged for each batch."""
    merged: list[int] = []

    def last(rows: pl.DataFrame) -> pl.DataFrame:
        merged.append(rows.height)
        return rows.unique("k", keep="last", maintain_order=True)

    keys = OwnedKeys(("k",), range(128), 128)
    store = FrameStore(MemoryBackend(), "op-1", last, 1 << 30, keys, replacing=True, repeated=True)
    for batch in range(12):
        rows = pl.select(k=(pl.int_range(40_000) + batch * 20_000) % 160_000, n=pl.lit(batch))
        store.look_up(0, rows)
        store.append(0, rows)
    assert store.rows_in(0) >= 160_000
    assert len(merged) < 3 * 12
    for number in range(0, 3_000, 10):
        if number == 500:
            merged.clear()
        rows = pl.DataFrame({"k": range(number, number + 10), "n": 99})
        store.look_up(0, rows)
        store.append(0, rows)
    assert merged
    assert max(merged) < 20_000
    found = store.look_up(0, pl.DataFrame({"k": [7, 159_999]}))
    assert found is not None
    assert sorted(found.rows()) == [(7, 99), (159_999, 7)]


def check_steps(
    budget: int,
    steps: list[tuple[str, int, list[str | None], int]],
    *,
    merged: bool,
    sorting: bool = False,
) -> None:
    backend = MemoryBackend()
    store = store_of(budget, merged=merged, backend=backend, sorting=sorting)
    model: Model = {}
    for number, (what, pane, keys, times) in enumerate(steps):
        rows = [(key, 100 * number + i) for key in keys for i in range(times)]
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        kept = model.setdefault(pane, {}) if what in ("append", "put") else model.get(pane, {})
        match what:
            case "append":
                store.append(pane, frame)
            case "put":
                # Of every second key nothing is to be left.
                frame = frame.filter(pl.col("k").is_in(keys[::2], nulls_equal=True))
                put(store, pane, keys_of(keys), frame)
                for key in keys:
                    kept[key] = []
            case "look up":
                peeked, looked = store.peek(pane, keys_of(keys)), store.look_up(pane, keys_of(keys))
                assert found(peeked) == found(looked) == expected(model, pane, keys, merged=merged)
            case "read" if pane in store:
                assert found(store.read(pane)) == expected(model, pane, kept, merged=merged)
            case "restore":
                saved = store.snapshot()
                values = unpack(pack(saved.values))
                store = store_of(budget, merged=merged, backend=backend, sorting=sorting)
                store.restore([StatePart(range(128), values, saved.tables, backend, adopted=True)])
            case _:
                continue
        if what in ("append", "put"):
            for key, n in frame.rows():
                kept.setdefault(key, []).append(n)
        assert store.nbytes <= budget
    for pane in store.panes():
        assert found(store.read(pane)) == expected(model, pane, model[pane], merged=merged)


@pytest.mark.parametrize(("budget", "sorting"), [(300_000, False), (2 << 20, True), (1 << 30, True)])
def test_many_keys_are_put_and_looked_up_while_they_are_divided_and_spilled(
    budget: int, sorting: bool
) -> None:
    backend = MemoryBackend()
    store = store_of(budget, merged=True, backend=backend, sorting=sorting)
    totals = dict.fromkeys(range(140_000 if sorting else 60_000), 1)
    store.append(0, pl.DataFrame({"k": [f"key {n}" for n in totals], "n": [1] * len(totals)}))
    for turn in range(60):
        chosen = [(turn * 7_919 + i * 104_729) % len(totals) for i in range(50)]
        keys = keys_of([f"key {n}" for n in chosen])
        if turn % 50 == 0:
            held = store.nbytes, store.spilled, store.rows
            peeked = found(store.peek(0, keys))
            assert held == (store.nbytes, store.spilled, store.rows)
            assert peeked == found(store.look_up(0, keys))
        old = dict(found(store.look_up(0, keys)))
        assert old == {f"key {n}": totals[n] for n in chosen}
        totals |= {n: totals[n] + turn for n in chosen}
        put(store, 0, keys, pl.DataFrame({"k": list(keys["k"]), "n": [totals[n] for n in chosen]}))
    assert dict(store.read(0).rows()) == {f"key {n}": total for n, total in totals.items()}
    assert (store.spilled > 0) == (budget < 1 << 30)


@both_ways
@pytest.mark.parametrize(
    "keys",
    [
        [f"key {n}" for n in range(300)],
        [b"key %d" % n for n in range(300)],
        list(range(300)),
        [date(2026, 1, 1) + timedelta(days=n) for n in range(300)],
        [False, True] * 150,
    ],
)
def test_a_few_keys_of_each_plain_type_are_compared_with_all(keys: list[Any]) -> None:
    store = store_of(1 << 30, merged=False, backend=MemoryBackend())
    store.append(0, pl.DataFrame({"k": [*keys, None], "n": range(301)}))
    for sought in ([keys[7]], [keys[7], None]):
        rows = store.look_up(0, pl.DataFrame({"k": sought}, schema={"k": pl.Series(keys).dtype}))
        assert rows is not None
        assert set(rows["n"]) == {n for n, key in enumerate([*keys, None]) if key in sought}


@both_ways
def test_chunks_of_a_version_without_marks_are_looked_up_and_replaced() -> None:
    backend = MemoryBackend()
    before = FrameStore(backend, "op-1", together, 20_000, KEYS)
    before.append(0, pl.DataFrame({"k": [f"key {n}" for n in range(3_000)], "n": [1] * 3_000}))
    saved = before.snapshot()
    assert before.spilled > 0
    store = store_of(1 << 30, merged=True, backend=backend)
    store.restore([StatePart(range(128), unpack(pack(saved.values)), saved.tables, backend, adopted=True)])
    keys = keys_of([f"key {n}" for n in range(10)])
    put(store, 0, keys_of(["key 3"]), pl.DataFrame({"k": ["key 3"], "n": [7]}))
    assert found(store.look_up(0, keys)) == [(f"key {n}", 7 if n == 3 else 1) for n in range(10)]
    assert sum(store.read(0)["n"]) == 3_006


@pytest.mark.parametrize("stored", [40_000, 160_000])
def test_looking_up_goes_over_as_many_rows_whatever_is_stored(
    stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(1 << 30, merged=True, backend=MemoryBackend())
    store.append(0, pl.DataFrame({"k": [f"key {n}" for n in range(stored)], "n": [1] * stored}))
    keys = keys_of([f"key {n}" for n in range(10)])
    for _ in range(2):
        store.look_up(0, keys)
    gone_over: list[int] = []
    rows_of = merging.Merging.rows

    def counted(merged: merging.Merging, frame: pl.DataFrame, sought: pl.DataFrame) -> pl.DataFrame:
        if sought.height == keys.height:
            gone_over.append(frame.height)
        return rows_of(merged, frame, sought)

    monkeypatch.setattr(merging.Merging, "rows", counted)
    for turn in range(200):
        rows = store.look_up(0, keys)
        assert rows is not None
        store.remove(0, rows)
        store.append(0, rows.with_columns(pl.col("n") + turn))
    # The tail of what came last, at most.
    assert max(gone_over) <= 4_096
    assert sum(gone_over) / 200 <= 1_000


_few_keys = st.lists(st.sampled_from(["a", "b", None]) | st.text(max_size=2), max_size=8)


@given(frames=st.lists(_few_keys, max_size=4))
def test_remembered_hashes_are_those_of_the_keys(frames: list[list[str | None]]) -> None:
    hashes = KeyHashes(("k",))
    for keys in frames:
        frame = keys_of(keys)
        sought = hashes.sought(frame)
        assert sought.hashes == distinct_keys(frame, ("k",))[1]
        assert sorted(sought.keys["k"], key=repr) == sorted(set(keys), key=repr)
        by_key = zip(key_hashes(sought.keys, ["k"]).to_list(), sought.keys["k"], strict=True)
        assert sought.values == dict(by_key)


@both_ways
def test_rows_that_were_replaced_are_not_gone_over_for_ever() -> None:
    store = store_of(1 << 30, merged=False, backend=MemoryBackend())
    rows: list[int] = []
    keys = keys_of([f"key {n}" for n in range(2_000)])
    for turn in range(20):
        put(store, 0, keys, keys.with_columns(pl.lit(turn).alias("n")))
        rows.append(store.rows_in(0))
    # A look-up of many keys goes over all rows: those of a few turns, each with its marks.
    assert max(rows) <= 3 * 2 * 2_000
    assert set(store.read(0)["n"]) == {19}


@both_ways
@pytest.mark.parametrize("looks_up", ["look_up", "candidates"])
def test_what_another_subtask_wants_back_is_given_back_only_after_it_was_read(looks_up: str) -> None:
    keys = keys_of([f"key {n}" for n in range(40)])

    def filled(memory: MemoryShare | int) -> FrameStore:
        store = FrameStore(MemoryBackend(), "op-1", together, memory, KEYS, replacing=True)
        for pane in range(3):
            store.append(pane, keys.with_columns(pl.lit(pane).alias("n")))
        return store

    # Two thirds of the memory: more than half, and so borrowed.
    pool = MemoryPool(filled(1 << 30).nbytes * 3 // 2, 2)
    store, other = filled(pool.share()), pool.share()
    assert not store.spilled
    other.hold(pool.equal)
    found = store.candidates([0, 1, 2], keys) if looks_up == "candidates" else [store.look_up(0, keys)]
    assert store.spilled
    assert [frame is not None and set(frame["n"]) for frame in found] == [{n} for n in range(len(found))]
