"""The reliability harness has to notice what it is there for: rows that are lost, repeated or wrong, and faults."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest

from benchmarks.figures import Figure
from reliability.account import Account, percentile
from reliability.corruption import DAMAGES, damage
from reliability.faulty_disk import FaultyDisk
from reliability.flow import OUTPUTS, Place, events, model
from reliability.points import POINTS, Point
from reliability.verdict import judge

EXPECTED = model(events(400, 1))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """All outputs as they have to be, in two files each."""
    place = Place(tmp_path)
    for name in OUTPUTS:
        write(place, name, EXPECTED[name][::2], "part-0")
        write(place, name, EXPECTED[name][1::2], "part-1")
    return place


def write(place: Place, name: str, frame: pl.DataFrame, part: str) -> None:
    folder = place.output / name
    folder.mkdir(parents=True, exist_ok=True)
    if name == "sliding":
        frame.write_ndjson(folder / f"{part}.ndjson")
    else:
        frame.write_parquet(folder / f"{part}.parquet")


def test_what_is_as_it_should_be_is_right(place: Place) -> None:
    assert judge(place, EXPECTED).right


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_lost_row_is_noticed_once_the_job_has_ended(place: Place, name: str) -> None:
    write(place, name, EXPECTED[name][2::2], "part-0")
    assert (judge(place, EXPECTED).lost, judge(place, EXPECTED).surplus) == (1, 0)
    assert judge(place, EXPECTED, ended=False).right


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("ended", [True, False])
def test_a_repeated_row_is_noticed(place: Place, name: str, ended: bool) -> None:
    write(place, name, EXPECTED[name][:1], "part-2")
    verdict = judge(place, EXPECTED, ended=ended)
    assert (verdict.lost, verdict.surplus) == (0, 1)
    assert name in str(verdict)


def test_a_wrong_row_is_lost_and_surplus(place: Place) -> None:
    write(place, "tumbling", EXPECTED["tumbling"][::2].with_columns(total=pl.col("total") + 1), "part-0")
    changed = len(EXPECTED["tumbling"][::2])
    assert (judge(place, EXPECTED).lost, judge(place, EXPECTED).surplus) == (changed, changed)


def test_the_model_counts_every_event_in_every_window() -> None:
    assert EXPECTED["events"]["id"].to_list() == list(range(400))
    assert EXPECTED["tumbling"]["n"].sum() == 400
    assert EXPECTED["sliding"]["n"].sum() == 1_200


FAULTY = [("full", 2, errno.ENOSPC), ("broken", 2, errno.EIO), ("unsynced", 1, errno.EIO)]


@pytest.mark.parametrize(("fault", "call", "number"), FAULTY)
def test_a_faulty_disk_refuses_the_call_it_is_told_to(tmp_path: Path, fault, call: int, number: int) -> None:
    disk, path = FaultyDisk(fault, call), tmp_path / "a"

    def use() -> None:
        disk.write(path, b"four")
        disk.sync(path)
        disk.append(path, b"more")

    with pytest.raises(OSError, match=r"device|error") as refused:
        use()
    assert refused.value.errno == number
    assert disk.refused == 1
    assert disk.read(path) == (b"four" if fault == "unsynced" else b"fourmo")
    use()


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_changes_the_checkpoints(tmp_path: Path, how: str) -> None:
    import random

    for name in ("job/manifests/0000000001", "job/blobs/0000000001/aa", "job/blobs/0000000001/bb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 20)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(
        damage(tmp_path, how, random.Random(seed))
        and before != {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for seed in range(3)
    )


def test_points_are_read_as_they_are_written() -> None:
    assert [Point.parse(str(Point(name, 7))) for name in POINTS] == [Point(name, 7) for name in POINTS]


def test_an_account_survives_being_told() -> None:
    account = Account(7)
    with account.part("kills"):
        account.add(Figure("lost", 1, "", "≤", 0), Figure("kills", 20, "times", "≥", 10))
        account.note("as it was")
    assert account.failed
    assert Account.from_json(account.as_json()).markdown() == account.markdown()


def test_percentiles_of_few_values() -> None:
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_a_missed_time_is_told_and_fails_nothing() -> None:
    account = Account(7)
    with account.part("kills"):
        account.add(Figure("recovery", 0.7, "s", "≤", 0.3))
    assert not account.failed
    assert "| NO " in account.markdown()
