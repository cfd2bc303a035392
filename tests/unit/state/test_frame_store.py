"""The pane store: any appends, merges and spills give what grouping everything at once gives."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.keys import key_group_range, key_groups
from streamflow.core.serde import ipc_to_frame, pack, unpack
from streamflow.errors import StateError
from streamflow.state.backends.factory import open_backend, open_saved
from streamflow.state.backends.growing import GrowingBackend
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.saved import FilesInMemory
from streamflow.state.frames.key_slices import slices_of
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import StatePart

ADDRESS = StateAddress("window-1", "panes")
KEYS = OwnedKeys(("k",), range(128), 128)
LARGE = 1 << 30
SMALL = 20_000


def merge(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("k", maintain_order=True).agg(
        pl.col("n").sum(), pl.col("first").first(), pl.col("last").last()
    )


class Merges:
    """Counts the merges and the rows that went into them."""

    def __init__(self) -> None:
        self.calls = 0
        self.rows = 0

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        self.calls += 1
        self.rows += frame.height
        return merge(frame)


def partial(keys: list[str], number: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {"k": keys, "n": [1] * len(keys), "first": [number] * len(keys), "last": [number] * len(keys)},
        schema={"k": pl.String, "n": pl.Int64, "first": pl.Int64, "last": pl.Int64},
    )


def distinct(rows: int, number: int = 0) -> pl.DataFrame:
    return partial([f"{number}-{i}" for i in range(rows)], number)


def store_of(budget: int = LARGE, backend: KeyedStateBackend | None = None) -> FrameStore:
    return FrameStore(backend or MemoryBackend(), "window-1", merge, budget, KEYS)


def chunks_in(backend: KeyedStateBackend) -> int:
    return len(list(backend.scan(ADDRESS, 0)))


_appends = st.lists(
    st.tuples(st.integers(-3, 3), st.lists(st.sampled_from("abcdefgh"), max_size=6), st.integers(1, 40)),
    max_size=30,
)


@pytest.mark.parametrize("budget", [1, 3_000, SMALL, LARGE])
@given(appends=_appends, reads=st.lists(st.integers(0, 29), max_size=3), drop=st.integers(-3, 3))
def test_panes_hold_what_one_merge_over_everything_gives(
    budget: int, appends: list[tuple[int, list[str], int]], reads: list[int], drop: int
) -> None:
    backend = MemoryBackend()
    store = FrameStore(backend, "window-1", merge, budget, KEYS)
    model: dict[int, list[pl.DataFrame]] = {}
    for number, (pane, keys, times) in enumerate(appends):
        frame = partial([f"{key}{i}" for key in keys for i in range(times)], number)
        store.append(pane, frame)
        model.setdefault(pane, []).append(frame)
        assert store.nbytes <= budget
        if number in reads:
            assert store.read(pane).sort("k").equals(merge(pl.concat(model[pane])).sort("k"))
    if drop in model:
        store.drop(drop)
        del model[drop]
    assert store.panes() == tuple(sorted(model))
    for pane, frames in model.items():
        assert pane in store
        assert store.read(pane).sort("k").equals(merge(pl.concat(frames)).sort("k"))
        assert store.nbytes <= budget
    copy = store_of()
    kept = store.snapshot()
    copy.restore([StatePart(range(128), kept.values, kept.tables, backend)])
    # Nothing is left of an empty pane.
    assert copy.panes() == tuple(pane for pane in store.panes() if store.read(pane).height)
    for pane in copy.panes():
        assert copy.read(pane).sort("k").equals(store.read(pane).sort("k"))
    store.clear()
    assert (store.panes(), len(store), store.rows, store.nbytes, store.spilled) == ((), 0, 0, 0, 0)
    assert chunks_in(backend) == 0


def test_nothing_is_opened_as_long_as_nothing_spills() -> None:
    backend = GrowingBackend(MemoryBackend)
    store = store_of(backend=backend)
    for number in range(50):
        store.append(number % 5, distinct(100, number))
    store.read(0)
    store.drop(2)
    store.clear()
    assert not backend.grown


def test_the_pane_appended_to_least_recently_is_spilled_first() -> None:
    backend = MemoryBackend()
    store = store_of(64_000, backend)
    store.append(1, distinct(300, 1))
    store.append(2, distinct(300, 2))
    store.append(1, distinct(300, 3))
    assert store.spilled == 0
    store.append(3, distinct(300, 4))
    (pane_bytes,) = {key[:8] for key, _ in backend.scan(ADDRESS, 0)}
    assert int.from_bytes(pane_bytes, "big") - 2**63 == 2
    assert store.spilled == sum(len(value) for _, value in backend.scan(ADDRESS, 0))
    assert store.rows == 1_200


def test_merging_comes_before_spilling_where_it_helps() -> None:
    backend = GrowingBackend(MemoryBackend)
    store = store_of(100_000, backend)
    for number in range(200):
        store.append(number % 4, partial(["a", "b", "c"] * 50, number))
        assert store.nbytes <= 100_000
    assert not backend.grown
    assert store.read(0)["n"].to_list() == [2_500] * 3


def test_a_pane_larger_than_the_budget_spills_in_several_runs_in_order() -> None:
    backend = MemoryBackend()
    store = store_of(SMALL, backend)
    for number in range(12):
        store.append(7, distinct(400, number % 3).with_columns(last=pl.lit(number, dtype=pl.Int64)))
    assert chunks_in(backend) >= 4
    result = store.read(7)
    assert result.height == 1_200
    assert set(result["n"]) == {4}
    assert result.filter(pl.col("k").str.starts_with("2-"))["last"].unique().to_list() == [11]
    assert result.filter(pl.col("k").str.starts_with("2-"))["first"].unique().to_list() == [2]


def test_a_large_frame_is_spilled_in_chunks_of_a_megabyte() -> None:
    backend = MemoryBackend()
    store = store_of(1 << 20, backend)
    store.append(0, pl.DataFrame({"k": pl.int_range(200_000, eager=True).cast(pl.String)}).with_columns(
        n=pl.lit(1), first=pl.lit(1), last=pl.lit(1)
    ))  # fmt: skip
    values = [value for _, value in backend.scan(ADDRESS, 0)]
    assert len(values) >= 5
    assert max(map(len, values)) <= 1 << 20
    assert max(ipc_to_frame(value).estimated_size() for value in values) <= 1 << 20
    assert store.read(0).height == 200_000


def test_a_row_is_merged_a_bounded_number_of_times() -> None:
    merges = Merges()
    store = FrameStore(MemoryBackend(), "window-1", merges, LARGE, KEYS)
    keys = partial([f"k{i}" for i in range(1_000)])
    for _ in range(500):
        store.append(0, keys)
    assert merges.rows <= 2 * 500_000
    assert store.read(0)["n"].to_list() == [500] * 1_000


def test_also_where_merging_does_not_shrink_anything() -> None:
    merged: list[int] = []

    def keep_all(frame: pl.DataFrame) -> pl.DataFrame:
        merged.append(frame.height)
        return frame

    store = FrameStore(MemoryBackend(), "window-1", keep_all, LARGE, KEYS)
    frame = pl.DataFrame({"n": pl.int_range(5_000, eager=True)})
    for _ in range(400):
        store.append(0, frame)
    assert sum(merged) <= 3 * 2_000_000
    assert store.read(0).height == store.rows == 2_000_000


def test_many_tiny_partials_are_merged_too() -> None:
    store = store_of()
    for number in range(1_000):
        store.append(0, partial(["a"], number))
    assert store.rows <= 300
    assert store.read(0).rows() == [("a", 1_000, 0, 999)]


def test_reading_twice_merges_once() -> None:
    merges = Merges()
    store = FrameStore(MemoryBackend(), "window-1", merges, LARGE, KEYS)
    store.append(0, partial(["a"]))
    store.append(0, partial(["a"]))
    assert store.read(0).equals(store.read(0))
    assert merges.calls == 1


def test_column_types_may_widen() -> None:
    store = store_of()
    narrow = partial(["a"]).with_columns(pl.col("n").cast(pl.Int32), first=pl.lit(None))
    store.append(0, narrow)
    store.append(0, partial(["a", "b"], 7))
    assert store.read(0).schema["n"] == pl.Int64
    spilling = store_of(1)
    spilling.append(0, narrow)
    spilling.append(0, partial(["a", "b"], 7))
    assert spilling.read(0).rows() == store.read(0).rows()


def test_an_empty_frame_makes_a_pane_with_its_columns() -> None:
    store = store_of()
    store.append(0, partial([]))
    store.append(0, partial([]))
    assert (store.panes(), store.rows, store.read(0).columns) == ((0,), 0, ["k", "n", "first", "last"])


def test_a_pane_that_is_not_there_is_a_key_error() -> None:
    store = store_of()
    with pytest.raises(KeyError):
        store.read(3)
    with pytest.raises(KeyError):
        store.drop(3)


def test_lost_and_damaged_chunks_are_state_errors() -> None:
    backend = MemoryBackend()
    store = store_of(1, backend)
    store.append(0, distinct(10))
    store.append(1, distinct(10))
    (lost, _), (damaged, value) = backend.scan(ADDRESS, 0)
    backend.delete(ADDRESS, 0, lost)
    backend.put(ADDRESS, 0, damaged, value[:-1] + bytes([value[-1] ^ 1]))
    with pytest.raises(StateError, match=r"operator window-1: chunk 0 of pane 0 is missing"):
        store.read(0)
    with pytest.raises(StateError, match="checksum"):
        store.read(1)


def test_what_arrow_cannot_hold_cannot_spill() -> None:
    store = FrameStore(MemoryBackend(), "window-1", lambda frame: frame, 1, KEYS)
    with pytest.raises(StateError, match="pack them first"):
        store.append(0, pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(StateError, match="memory budget"):
        store_of(0)


# Large panes.

DIVIDING = 512 << 10
"""A pane of more than an eighth of it is divided."""


def large(rows: int, number: int = 0) -> pl.DataFrame:
    """Keys 0 to `rows` in an order of their own."""
    keys = [f"key-{(at * 7_919 + number) % rows:06d}" for at in range(rows)]
    return partial(keys, number)


def together(store: FrameStore, panes: list[int], slices: int) -> dict[int, pl.DataFrame]:
    """The panes, read slice by slice."""
    read: dict[int, list[pl.DataFrame]] = {}
    for number in range(slices):
        for pane in panes:
            frame = store.read_slice([pane], number, slices)
            if frame is not None:
                read.setdefault(pane, []).append(frame)
    return {pane: pl.concat(frames) for pane, frames in read.items()}


@pytest.mark.parametrize("budget", [SMALL, DIVIDING, LARGE])
@pytest.mark.parametrize("slices", [1, 2, 16, 64, 256])
def test_any_number_of_slices_makes_the_whole_pane(budget: int, slices: int) -> None:
    backend = MemoryBackend()
    store = store_of(budget, backend)
    frames = [large(5_000, number) for number in range(4)]
    for frame in frames:
        store.append(0, frame)
        store.append(1, frame[:10])
    if budget == LARGE:
        assert chunks_in(backend) == 0
    read = together(store, [0, 1], slices)
    for pane, expected in ((0, frames), (1, [frame[:10] for frame in frames])):
        assert read[pane].sort("k").equals(merge(pl.concat(expected)).sort("k"))
        assert store.read(pane).sort("k").equals(read[pane].sort("k"))
    assert store.nbytes <= budget


@pytest.mark.parametrize("budget", [SMALL, DIVIDING, LARGE])
def test_a_key_is_in_the_same_slice_of_every_pane(budget: int) -> None:
    store = store_of(budget)
    store.append(0, large(9_000))
    store.append(1, large(300))
    for number in range(8):
        few, many = store.read_slice([1], number, 8), store.read_slice([0], number, 8)
        assert few is not None
        assert many is not None
        assert set(few["k"]) <= set(many["k"])


def test_a_large_pane_asks_to_be_read_in_slices() -> None:
    store = store_of(DIVIDING)
    store.append(0, large(100))
    assert (store.slices([0]), store.slices([])) == (1, 1)
    assert store.share(0) < 1
    store.append(1, large(20_000))
    assert store.slices([0, 1]) == store.slices([1]) >= 16
    sizes = [frame.estimated_size() for n in range(16) if (frame := store.read_slice([1], n, 16)) is not None]
    assert max(sizes) <= 2 * sum(sizes) / 16


def test_the_keys_of_a_few_key_groups_spread_over_all_slices() -> None:
    keys = OwnedKeys(("k",), range(3, 5), 128)
    frame = keys.rows(large(60_000))
    parts = slices_of(frame, ["k"], 8).value_counts()["count"].to_list()
    assert len(parts) == 8
    assert max(parts) < 1.5 * min(parts)


def test_dividing_keeps_the_order_of_appending() -> None:
    for budget in (SMALL, DIVIDING, LARGE):
        store = store_of(budget)
        for number in range(30):
            store.append(0, large(1_000).with_columns(first=pl.lit(number), last=pl.lit(number)))
        read = store.read(0)
        assert (set(read["n"]), set(read["first"]), set(read["last"])) == ({30}, {0}, {29})


def test_a_row_of_a_divided_pane_is_merged_a_bounded_number_of_times() -> None:
    merges = Merges()
    store = FrameStore(MemoryBackend(), "window-1", merges, 8 << 20, KEYS)
    for number in range(100):
        store.append(0, partial([f"{number}-{i}" for i in range(2_000)]))
    assert store.slices([0]) > 1
    assert merges.rows <= 5 * 200_000


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
@pytest.mark.parametrize("budget", [SMALL, DIVIDING, LARGE])
def test_a_store_that_is_restored_has_the_same_panes_and_goes_on(
    budget: int, kind: str, tmp_path: Path
) -> None:
    backend = open_backend(kind)
    store = store_of(budget, backend)
    frames = [large(4_000, number) for number in range(3)]
    for frame in frames[:2]:
        store.append(0, frame)
        store.append(5, frame[:100])
    kept = store.snapshot()
    values = unpack(pack(dict(kept.values)))
    saved = backend.save(tmp_path / "saved")
    assert saved is not None
    store.append(0, large(7_000))  # what comes later is not in the snapshot
    store.drop(5)
    files = FilesInMemory.of(saved)
    again, elsewhere, read_only = open_saved(kind, files), MemoryBackend(), open_saved(kind, files)
    adopted, copied = store_of(budget, again), store_of(budget, elsewhere)
    adopted.restore([StatePart(range(128), values, kept.tables, adopted=True)])
    copied.restore([StatePart(range(128), values, kept.tables, read_only)])
    for restored in (adopted, copied):
        assert restored.panes() == (0, 5)
        assert restored.nbytes <= budget
        restored.append(0, frames[2])
        assert restored.read(0).sort("k").equals(merge(pl.concat(frames)).sort("k"))
        assert restored.read(5).sort("k").equals(merge(pl.concat([f[:100] for f in frames[:2]])).sort("k"))
        restored.clear()
        assert (restored.rows, restored.nbytes, restored.spilled) == (0, 0, 0)
    assert chunks_in(again) == chunks_in(elsewhere) == 0
    for each in (backend, again, read_only):
        each.close()


@pytest.mark.parametrize("budget", [SMALL, LARGE])
def test_subtasks_find_their_keys_in_the_stores_of_others(budget: int) -> None:
    frame = large(3_000)
    whole = store_of(budget, MemoryBackend())
    whole.append(0, frame)

    def parts_of(stores: list[tuple[FrameStore, MemoryBackend, range]]) -> list[StatePart]:
        kept = [(store.snapshot(), backend, groups) for store, backend, groups in stores]
        return [StatePart(groups, k.values, k.tables, backend) for k, backend, groups in kept]

    backend = MemoryBackend()
    store = store_of(budget, backend)
    store.append(0, frame)
    stores = [(store, backend, range(128))]
    for parallelism in (3, 2):
        parts = parts_of(stores)
        stores = []
        for subtask in range(parallelism):
            groups = key_group_range(subtask, parallelism, 128)
            new = MemoryBackend()
            made = FrameStore(new, "window-1", merge, budget, OwnedKeys(("k",), groups, 128))
            made.restore([p for p in parts if p.groups.start < groups.stop and groups.start < p.groups.stop])
            stores.append((made, new, groups))
        rows = [store.read(0) for store, _, _ in stores]
        assert pl.concat(rows).sort("k").equals(merge(frame).sort("k"))
        for (_, _, groups), own in zip(stores, rows, strict=True):
            assert key_groups(own, ["k"], 128).is_between(groups.start, groups.stop - 1).all()


def test_chunks_without_their_backend_are_a_state_error() -> None:
    store = store_of(1)
    store.append(0, distinct(10))
    kept = store.snapshot()
    with pytest.raises(StateError, match="pane 0"):
        store_of().restore([StatePart(range(128), kept.values, kept.tables)])
