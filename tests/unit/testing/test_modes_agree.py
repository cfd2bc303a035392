"""`check_modes_agree`: it passes for jobs that keep the promise and catches those that do not."""

from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import check_modes_agree, simulate

ROWS = [{"k": "ab"[n % 2], "ts": n - 2 * (n % 2), "v": n * 0.1} for n in range(30)]


def read(job: sf.Job, **watermark: Any) -> sf.Stream:
    return job.read(
        sf.MemorySource(ROWS), event_time=sf.epoch("ts", unit="s"), watermark=sf.bounded_disorder(**watermark)
    )


@pytest.mark.parametrize(
    "window", [sf.tumbling("7s"), sf.sliding("6s", every="4s"), sf.session(gap="3s")], ids=str
)
def test_windows_agree(window: Any) -> None:
    job = sf.Job("windows")
    read(job, bound="2s").key_by("k").window(window).aggregate(n=sf.count(), mean=sf.mean("v")).collect()
    results = check_modes_agree(job, parallelism=(1, 2), batch_rows=(3, 100))
    assert sum(row["n"] for row in results["write-1"]) >= len(ROWS)


def test_running_totals_agree_in_the_end() -> None:
    job = sf.Job("totals")
    read(job).key_by("k").aggregate(total=sf.sum("v")).collect()
    results = check_modes_agree(job, parallelism=(1, 2), batch_rows=(3,))
    assert sorted(row["k"] for row in results["write-1"]) == ["a", "b"]


def test_late_panes_count_by_their_last() -> None:
    job = sf.Job("late panes")
    windowed = read(job).key_by("k").window(sf.tumbling("5s"), allowed_lateness="1h")
    windowed.aggregate(n=sf.count()).collect()
    check_modes_agree(job, parallelism=(1,), batch_rows=(1, 100))


def test_data_late_in_one_mode_only_is_caught_and_explained() -> None:
    job = sf.Job("late")
    read(job, bound="0s").key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
    with pytest.raises(AssertionError) as raised:
        check_modes_agree(job, modes=("batch", "streaming"), parallelism=(1,), batch_rows=(1,))
    text = str(raised.value)
    assert "streaming, parallelism 1, batches of 1 differs from batch, parallelism 1, batches of 1" in text
    assert "write-1: missing" in text
    assert "were dropped as late" in text


def test_a_result_that_depends_on_batches_is_caught() -> None:
    job = sf.Job("batches")
    job.read(sf.MemorySource(ROWS)).map_batches(lambda frame: frame.with_columns(sf.col("v").sum())).collect()
    with pytest.raises(AssertionError, match="batch, parallelism 1, batches of 1000 differs from"):
        check_modes_agree(job, modes=("batch",), parallelism=(1,), batch_rows=(2, 1000))


def test_a_job_may_be_made_anew_for_each_run() -> None:
    made: list[sf.Job] = []

    def make() -> sf.Job:
        job = sf.Job("fresh")
        job.read(sf.MemorySource(ROWS)).filter(sf.col("v") > 1).collect()
        made.append(job)
        return job

    check_modes_agree(make, parallelism=(1,), batch_rows=(10,))
    assert len(made) == 3


def test_an_endless_job_is_refused() -> None:
    job = sf.Job("endless")
    job.read(sf.DataGen(rate=10)).collect()
    with pytest.raises(sf.JobDefinitionError, match="finite input only"):
        check_modes_agree(job)


def test_a_users_own_column_named_change_is_compared() -> None:
    def marked(frame: Any) -> Any:
        return frame.with_columns(change=sf.lit("insert" if frame.height > 5 else "delete"))

    job = sf.Job("change")
    job.read(sf.MemorySource(ROWS)).map_batches(marked).collect()
    with pytest.raises(AssertionError, match="differs from"):
        check_modes_agree(job, modes=("batch",), parallelism=(1,), batch_rows=(2, 1000))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (["nope"], "key of write-1: no column 'nope'"),
        ({"write-2": ["k"]}, "key: no sink 'write-2'.*did you mean 'write-1'"),
        ({"write-1": "k"}, "key: 'k' is one text"),
        ("k", "key: 'k' is one text"),
    ],
)
def test_a_key_that_is_not_there_is_refused(key: Any, message: str) -> None:
    job = sf.Job("keys")
    read(job).collect()
    with pytest.raises(sf.JobDefinitionError, match=message):
        check_modes_agree(job, key=key)
    with pytest.raises(sf.JobDefinitionError, match=message):
        simulate(job, seeds=1, key=key)


@pytest.mark.parametrize(
    "given", [{"seeds": 1.5}, {"seeds": "x"}, {"seeds": [1.5]}, {"rows": None}, {"rows": 0}]
)
def test_what_is_no_number_of_seeds_or_rows_is_refused(given: dict[str, Any]) -> None:
    job = sf.Job("modes")
    job.read(sf.MemorySource([{"k": "a", "v": 1}])).collect()
    [name] = given
    with pytest.raises(sf.JobDefinitionError, match=f"{name} is "):
        simulate(job, **given)


def test_no_seeds_prove_nothing() -> None:
    job = sf.Job("seeds")
    read(job).collect()
    with pytest.raises(sf.JobDefinitionError, match="seeds=0 proves nothing"):
        simulate(job, seeds=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "batch"}, "takes no mode"),
        ({"checkpoint_dir": "checkpoints"}, "takes no checkpoint_dir"),
        ({"restore": "none"}, "takes no restore"),
        ({"parallelism": 2}, "parallelism is 2"),
        ({"modes": "batch"}, "modes is 'batch'"),
        ({"batch_rows": None}, "batch_rows is None"),
        ({"key": 0}, "key is 0"),
        ({"key": [1]}, r"key is \[1\]"),
        ({"key": {"write-1": None}}, "key is None"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"tolerance": "1e-9"}, "tolerance is '1e-9'"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_what_would_prove_nothing_is_refused(given: dict[str, Any], message: str) -> None:
    job = sf.Job("modes")
    job.read(sf.MemorySource([{"k": "a", "v": 1}])).collect()
    with pytest.raises(sf.JobDefinitionError, match=message):
        check_modes_agree(job, **given)
