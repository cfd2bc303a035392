"""Where a run goes on from: what it is told to restore, checkpoints that are gone, output that is public already."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.observe.status import JobResult
from streamflow.operators.connectors.generator import GeneratorSource
from streamflow.runners.local import LocalJob
from tests.kafka.simulated_client import SimKafka
from tests.kafka.simulated_log import LogOdds, SimLog


class Gate:
    """How far the input goes for now; it ends at `end`, and fails once behind `fails_at`."""

    def __init__(self, open_to: int, end: int | None = None, fails_at: int | None = None) -> None:
        self.open_to, self.end, self.fails_at = open_to, end, fails_at

    def source(self) -> GeneratorSource:
        async def rows(start: int) -> AsyncIterator[dict[str, int]]:
            n = start
            while self.end is None or n < self.end:
                if n == self.fails_at:
                    self.fails_at = None
                    raise OSError("the input is away")
                if n >= self.open_to:
                    await asyncio.sleep(0.005)
                    continue
                yield {"n": n}
                n += 1

        return sf.source(rows, schema={"n": sf.Int64}, bounded=self.end is not None)


@pytest.fixture
def log() -> SimLog:
    log = SimLog(LogOdds())
    log.begin(0, calm=True)
    return log


def public(log: SimLog) -> list[int]:
    return sorted(json.loads(entry.value or b"")["n"] for entry in log.committed("out"))


async def start(log: SimLog, gate: Gate, folder: Path | None, **settings: Any) -> LocalJob:
    job = sf.Job("going-on")
    sink = sf.KafkaSink("out", client=SimKafka(log), create={"partitions": 1})
    job.read(gate.source()).write(sink)
    given = {"checkpoint_interval": "1h", "mode": "streaming", "restart_delay": "1ms", **settings}
    return await job.start(checkpoint_dir=None if folder is None else str(folder), **given)


async def until(handle: LocalJob, true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            assert handle.status().state != "failed"
            await asyncio.sleep(0.005)


async def written(handle: LocalJob, count: int) -> None:
    await until(handle, lambda: handle.status().records_written >= count)


def run(log: SimLog, gate: Gate, folder: Path | None, **settings: Any) -> JobResult:
    async def whole() -> JobResult:
        return await (await start(log, gate, folder, **settings)).wait()

    return asyncio.run(whole())


@pytest.mark.parametrize("restore", ["nowhere", "nowhere#7", "s3://bucket/nowhere#7"])
def test_restoring_without_a_place_for_checkpoints_is_refused(log: SimLog, restore: str) -> None:
    with pytest.raises(sf.ConfigError, match="no place for checkpoints"):
        run(log, Gate(3, 3), None, restore=restore)
    assert public(log) == []


def test_a_checkpoint_that_is_not_there_is_refused_by_its_number_and_not_called_damaged(
    log: SimLog, tmp_path: Path
) -> None:
    run(log, Gate(3, 3), tmp_path / "one")
    for restore, known in (
        (f"{tmp_path / 'one'}#99", "there are 1"),
        (f"{tmp_path / 'no'}#1", "there is none"),
    ):
        with pytest.raises(sf.ConfigError, match=r"there is no checkpoint \d+ of going-on") as refused:
            run(log, Gate(3, 3), tmp_path / "two", restore=restore)
        assert known in str(refused.value.hint)


@pytest.mark.parametrize("moved", ["deleted", "renamed", "manifests deleted"])
def test_a_run_that_had_checkpoints_never_begins_with_none(log: SimLog, moved: str, tmp_path: Path) -> None:
    folder, gate = tmp_path / "checkpoints", Gate(5, fails_at=8)

    async def whole() -> None:
        handle = await start(log, gate, folder)
        await written(handle, 5)
        await handle.checkpoint()
        if moved == "renamed":
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(folder if moved == "deleted" else folder / "going-on" / "manifests")
        gate.open_to = 20
        await handle.wait()

    with pytest.raises(sf.StateError, match="are gone"):
        asyncio.run(whole())
    assert public(log) == [0, 1, 2, 3, 4]


def test_a_run_whose_checkpoints_are_deleted_writes_new_ones(log: SimLog, tmp_path: Path) -> None:
    folder, gate = tmp_path / "checkpoints", Gate(5)

    async def whole() -> None:
        handle = await start(log, gate, folder)
        await written(handle, 5)
        await handle.checkpoint()
        shutil.rmtree(folder)
        gate.open_to = 9
        await written(handle, 9)
        await handle.checkpoint()
        gate.fails_at, gate.open_to = 11, 15
        await until(handle, lambda: handle.status().restarts == 1)
        await until(handle, lambda: handle.status().state == "running")
        await until(handle, lambda: handle.status().records_written >= 15)
        await handle.stop()

    asyncio.run(whole())
    assert public(log) == list(range(15))


def test_a_restored_run_whose_checkpoints_go_does_not_begin_again(log: SimLog, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    async def whole() -> None:
        handle = await start(log, Gate(5), folder)
        await written(handle, 5)
        await handle.stop()
        gate = Gate(5, fails_at=8)
        handle = await start(log, gate, folder)
        await until(handle, lambda: handle.status().state == "running")
        shutil.rmtree(folder)
        gate.open_to = 20
        await handle.wait()

    with pytest.raises(sf.StateError, match="are gone"):
        asyncio.run(whole())
    assert public(log) == [0, 1, 2, 3, 4]


def test_a_new_folder_for_a_job_that_has_published_is_refused_unless_it_is_meant(
    log: SimLog, tmp_path: Path
) -> None:
    run(log, Gate(5, 5), tmp_path / "one")
    with pytest.raises(sf.SinkError, match="has published before") as refused:
        run(log, Gate(5, 5), tmp_path / "two")
    assert "--restore none" in str(refused.value)
    assert public(log) == [0, 1, 2, 3, 4]
    run(log, Gate(5, 5), tmp_path / "three", restore="none")
    assert public(log) == sorted([0, 1, 2, 3, 4] * 2)
    run(log, Gate(5, 5), tmp_path / "four", allow_duplicates=True)
    assert public(log) == sorted([0, 1, 2, 3, 4] * 3)


def test_a_new_folder_for_a_job_that_has_not_published_is_none_of_its_business(
    log: SimLog, tmp_path: Path
) -> None:
    async def nothing() -> None:
        handle = await start(log, Gate(0), tmp_path / "one")
        await handle.checkpoint()
        await handle.stop()

    asyncio.run(nothing())
    run(log, Gate(5, 5), tmp_path / "two")
    assert public(log) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("empty_epochs", [0, 3])
def test_a_savepoint_starts_in_a_new_folder_when_nothing_was_published_since(
    log: SimLog, empty_epochs: int, tmp_path: Path
) -> None:
    async def first() -> str:
        handle = await start(log, Gate(5), tmp_path / "one")
        await written(handle, 5)
        await handle.checkpoint()
        place = await handle.savepoint(str(tmp_path / "saves"))
        for _ in range(empty_epochs):
            await handle.checkpoint()
        await handle.stop()
        return place

    place = asyncio.run(first())
    run(log, Gate(9, 9), tmp_path / "two", restore=place)
    assert public(log) == list(range(9))


def test_a_savepoint_that_output_has_overtaken_is_refused(log: SimLog, tmp_path: Path) -> None:
    async def first() -> str:
        gate = Gate(5)
        handle = await start(log, gate, tmp_path / "one")
        await written(handle, 5)
        place = await handle.savepoint(str(tmp_path / "saves"))
        gate.open_to = 7
        await written(handle, 7)
        await handle.stop()
        return place

    place = asyncio.run(first())
    with pytest.raises(sf.SinkError, match="is public, but the checkpoint"):
        run(log, Gate(9, 9), tmp_path / "two", restore=place)
    assert public(log) == list(range(7))


def test_stopping_with_a_savepoint(log: SimLog, tmp_path: Path) -> None:
    async def first() -> JobResult:
        handle = await start(log, Gate(5), tmp_path / "one")
        await written(handle, 5)
        return await handle.stop(savepoint=str(tmp_path / "saves"))

    result = asyncio.run(first())
    assert result.savepoint is not None
    assert result.stopped
    assert public(log) == [0, 1, 2, 3, 4]
    shutil.rmtree(tmp_path / "one")
    run(log, Gate(9, 9), tmp_path / "two", restore=result.savepoint)
    assert public(log) == list(range(9))


def test_a_savepoint_that_cannot_be_written_stops_nothing(log: SimLog, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def whole() -> JobResult:
        handle = await start(log, Gate(5), tmp_path / "one")
        await written(handle, 5)
        with pytest.raises(sf.StateError, match="Not a directory"):
            await handle.stop(savepoint=str(tmp_path / "file" / "saves"))
        assert handle.status().state == "running"
        return await handle.stop(savepoint=str(tmp_path / "saves"))

    assert asyncio.run(whole()).savepoint is not None


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "",
        " ",
        "a\0b",
        "OUT",
        "OUT/deep/er",
        "file://OUT",
        "file:///",
        "OUT/../checkpoints/going-on",
        "file://OUT/../checkpoints/going-on/x",
    ],
)
def test_what_is_no_place_for_a_savepoint_is_refused(target: str, tmp_path: Path) -> None:
    async def whole() -> None:
        job = sf.Job("going-on")
        job.read(Gate(3).source()).write(sf.FileSink(str(tmp_path / "out"), format="ndjson"))
        handle = await job.start(checkpoint_dir=str(tmp_path / "checkpoints"), mode="streaming")
        place = target.replace("OUT", str(tmp_path / "out"))
        for ask in (lambda: handle.savepoint(place), lambda: handle.stop(savepoint=place)):
            with pytest.raises(sf.ConfigError, match="savepoint"):
                await ask()
        assert handle.status().state in ("starting", "running")
        with pytest.raises(sf.ConfigError, match="drained"):
            await handle.stop(drain=True, savepoint=str(tmp_path / "saves"))
        await handle.stop()

    asyncio.run(whole())


def test_a_job_that_has_ended_says_why_it_reads_nothing_more(tmp_path: Path) -> None:
    def again(**settings: Any) -> tuple[int, tuple[str, ...]]:
        job = sf.Job("going-on")
        out = job.read(sf.FileSource(tmp_path / "*.ndjson", schema={"n": int})).collect()
        notes = job.run(checkpoint_dir=str(tmp_path / "checkpoints"), **settings).notes
        return len(out.rows()), notes

    (tmp_path / "a.ndjson").write_text('{"n": 1}\n')
    assert again() == (1, ())
    (tmp_path / "b.ndjson").write_text('{"n": 2}\n')
    rows, [note] = again()
    assert rows == 0
    assert note == 'the job had come to its end and reads nothing more; restore="none" begins again'
    assert again(restore="none") == (2, ())


def test_what_killed_runs_left_in_the_state_folder_goes_and_what_others_use_stays(
    log: SimLog, tmp_path: Path
) -> None:
    place = tmp_path / "state" / "going-on"
    for name in ("process-dead", "process-alive"):
        (place / name / "run-1").mkdir(parents=True)
        (place / name / "run-1" / "000012.sst").write_text("state")
    let_go = LocalDisk().lock(place / "process-alive" / "lock")
    run(log, Gate(5, 5), tmp_path / "checkpoints", state_dir=str(tmp_path / "state"))
    assert [path.name for path in place.iterdir()] == ["process-alive"]
    assert (place / "process-alive" / "run-1" / "000012.sst").exists()
    let_go()
    run(log, Gate(5, 5), tmp_path / "checkpoints", state_dir=str(tmp_path / "state"))
    assert list(place.iterdir()) == []


def test_what_killed_runs_left_among_temporary_files_goes_and_what_others_use_stays(
    log: SimLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("streamflow-work-dead", "streamflow-work-alive", "streamflow-work-another-program"):
        (tmp_path / name / "run-1").mkdir(parents=True)
    (tmp_path / "streamflow-work-dead" / "lock").write_text("")
    (tmp_path / "streamflow-work-link").symlink_to(tmp_path / "streamflow-work-dead")
    let_go = LocalDisk().lock(tmp_path / "streamflow-work-alive" / "lock")
    run(log, Gate(5, 5), None)
    let_go()
    left = {"streamflow-work-alive", "streamflow-work-another-program", "streamflow-work-link"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_state_folder_that_cannot_be_one_is_said(log: SimLog, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(sf.StateError, match=r"cannot keep live state in .*state.*another state_dir"):
        run(log, Gate(5, 5), tmp_path / "checkpoints", state_dir=str(tmp_path / "state"))


@pytest.mark.parametrize(
    "settings", [{"mode": "micro-batch"}, {"state_backend": "memory"}, {"parallelism": 3}]
)
def test_another_mode_backend_or_parallelism_goes_on(
    settings: dict[str, Any], log: SimLog, tmp_path: Path
) -> None:
    async def first() -> None:
        handle = await start(log, Gate(5), tmp_path)
        await written(handle, 5)
        await handle.stop()

    asyncio.run(first())
    run(log, Gate(9, 9), tmp_path, **settings)
    assert public(log) == list(range(9))


def test_a_savepoint_whose_own_folder_is_in_use_is_refused(tmp_path: Path) -> None:
    async def whole() -> None:
        job = sf.Job("going-on")
        job.read(Gate(1).source()).write(sf.FileSink(tmp_path / "data" / "going-on", format="ndjson"))
        handle = await job.start(checkpoint_dir=str(tmp_path / "cp"), mode="streaming")
        # The state goes into the folder of the job below the place.
        with pytest.raises(sf.ConfigError, match="would lie among the output of write-1"):
            await handle.savepoint(str(tmp_path / "data"))
        with pytest.raises(sf.ConfigError, match="would lie among the job's checkpoints"):
            await handle.savepoint(str(tmp_path / "cp"))
        await handle.stop()

    (tmp_path / "data").mkdir()
    asyncio.run(whole())
