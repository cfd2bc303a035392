"""Jobs on workers: the results of one process, whatever the number of workers, and whatever becomes of them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import streamflow
import streamflow as sf
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.errors import ConfigError, RecordError
from streamflow.runners.local import LocalJob
from streamflow.runtime.control.plan_text import check_same, plan_text
from tests.processes.running import MADE, RUNS, check_run, loaded, until, write_input


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("processes")
    write_input(base)
    return base


@pytest.mark.parametrize(("name", "mode", "processes"), RUNS)
def test_workers_give_the_results_of_one_process(name: str, mode: Any, processes: int, base: Path) -> None:
    check_run(name, base, mode, runner="processes", processes=processes)


RECORDS = 15_000
ON_TWO: dict[str, Any] = {
    "mode": "streaming",
    "runner": "processes",
    "processes": 2,
    "checkpoint_interval": "200ms",
    "restart": "fixed",
    "restart_delay": "0s",
}


def workers() -> list[psutil.Process]:
    """The workers of this process's job, the oldest first."""
    children = psutil.Process().children()
    found = [child for child in children if "streamflow.cli.worker" in child.cmdline()]
    return sorted(found, key=lambda child: child.create_time())


def taken(handle: LocalJob) -> int:
    checkpoint = handle.status().checkpoint
    return 0 if checkpoint is None else checkpoint.taken


def check_made(base: Path, rows: int) -> None:
    """The output of the job `made` is one chain of updates for each key, which ends where it has to: nothing is lost,
    nothing is there twice."""
    last: dict[int, tuple[int, int]] = {}
    for file in sorted((base / "out").glob("*.ndjson"), key=lambda file: file.stat().st_mtime_ns):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            now = row["count"], row["total"]
            if row["change"] == "update_before":
                assert last.pop(row["k"]) == now
            else:
                assert row["k"] not in last
                last[row["k"]] = now
    numbers: dict[int, list[int]] = {}
    for n in range(rows):
        numbers.setdefault(n % 17, []).append(n)
    assert last == {key: (len(each), sum(each)) for key, each in numbers.items()}


def test_a_worker_that_dies_or_freezes_is_replaced(tmp_path: Path) -> None:
    async def whole() -> None:
        job, _ = loaded("made", tmp_path, MADE, made=RECORDS)
        handle = await job.start(checkpoint_dir=tmp_path / "checkpoints", worker_timeout="3s", **ON_TWO)
        await until(handle, lambda: taken(handle) >= 2)
        first, second = workers()
        first.kill()
        await until(handle, lambda: handle.status().restarts == 1 and str(handle.health.state) == "running")
        there = taken(handle)
        await until(handle, lambda: taken(handle) > there)
        assert second in workers()
        second.suspend()
        await until(handle, lambda: handle.status().restarts == 2)
        result = await handle.wait()
        assert result.restarts == 2
        assert result.records_in["read-1"] == result.records_in["map-1"] == RECORDS
        assert not workers()

    asyncio.run(whole())
    check_made(tmp_path, RECORDS)


def test_what_was_saved_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    async def first() -> None:
        job, _ = loaded("made", tmp_path, MADE, made=RECORDS)
        handle = await job.start(checkpoint_dir=tmp_path / "checkpoints", **ON_TWO)
        await until(handle, lambda: taken(handle) >= 2)
        result = await handle.stop()
        assert result.stopped
        assert not workers()

    asyncio.run(first())
    job, _ = loaded("made", tmp_path, MADE, made=RECORDS)
    settings = {**ON_TWO, "processes": 3}
    asyncio.run(job.run_async(checkpoint_dir=tmp_path / "checkpoints", **settings))
    job, _ = loaded("made", tmp_path, MADE, made=RECORDS)
    asyncio.run(job.run_async(checkpoint_dir=tmp_path / "checkpoints", mode="streaming"))
    check_made(tmp_path, RECORDS)


def test_an_error_in_a_worker_says_where(base: Path) -> None:
    job, _ = loaded("failing", base)
    with pytest.raises(RecordError) as raised:
        asyncio.run(job.run_async(mode="batch", runner="processes", processes=2))
    assert raised.value.where.code is not None
    assert "jobs.py" in raised.value.where.code
    assert raised.value.where.operator == "map-1"
    assert "'v': 400" in raised.value.record


def test_workers_end_with_their_coordinator(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise ImportError('no module of the library')\n")
    command = [
        sys.executable,
        "-P",
        "-m",
        "streamflow",
        "run",
        str(MADE),
        "--set",
        f"base={tmp_path}",
        "--set",
        "made=1000000",
    ]
    flags = ["--mode", "streaming", "--runner", "processes", "--processes", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(streamflow.__file__).parents[1])}
    coordinator = psutil.Popen(
        [*command, *flags], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in coordinator.stderr:
            if "job is running" in line:
                break
        workers = coordinator.children()
        assert len(workers) == 2
        for worker in workers:
            assert not any(len(word) == 64 for word in worker.cmdline()), "the secret is in the arguments"
    finally:
        coordinator.kill()
        coordinator.wait()
        coordinator.stderr.close()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert len(gone) == 2


def test_a_job_without_a_file_is_refused() -> None:
    job = sf.Job("nowhere")
    job.read(sf.MemorySource([{"n": 1}])).map(lambda row: row).collect()
    with pytest.raises(ConfigError, match="is no variable of any"):
        asyncio.run(job.run_async(runner="processes", processes=2))


def test_several_processes_without_a_runner_for_them_are_refused(base: Path) -> None:
    job, _ = loaded("columns", base)
    with pytest.raises(ConfigError, match="processes is 2, and the runner is 'local'"):
        asyncio.run(job.run_async(processes=2))
    job, _ = loaded("columns", base)
    asyncio.run(job.run_async(processes=1))


def test_a_module_of_a_package_has_its_neighbours_and_its_arguments_in_workers(tmp_path: Path) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "neighbour.py").write_text("def same(row):\n    print('seen')\n    return row\n")
    (package / "job.py").write_text(
        "import sys, streamflow as sf\n"
        "from .neighbour import same\n"
        "rows = int(sys.argv[1]) if len(sys.argv) > 1 else 5\n"
        "schema = {'n': sf.Int64}\n"
        "job = sf.Job('mine')\n"
        "made = job.read(sf.DataGen({'n': sf.col('index')}, rows=rows)).map(same, schema=schema)\n"
        "out = made.key_by('n').aggregate(all=sf.count()).collect()\n"
        "if __name__ == '__main__':\n"
        "    job.run(runner='processes', processes=2)\n"
        "    print(len(out.rows()))\n"
    )
    command = [sys.executable, "-m", "mine.job", "50"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("seen\n" * 50 + "50\n", 0), ended.stderr


def test_workers_whose_source_is_another_one_are_refused() -> None:
    def text(rows: int) -> str:
        job = sf.Job("same")
        made = job.read(sf.DataGen({"n": sf.col("index")}, rows=rows))
        made.map(lambda row: row, schema={"n": sf.Int64}).collect()
        return plan_text(physical_plan(job.graph, Settings()))

    check_same(text(5), text(5))
    with pytest.raises(ConfigError, match="in a worker than where it was started: read-1"):
        check_same(text(5), text(50))


def test_a_global_that_is_set_behind_the_import_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scaling.py"
    file.write_text(
        "import streamflow as sf\n"
        "sf.setting('base', '')\n"
        "FACTOR = 1\n"
        "job = sf.Job('scaling')\n"
        "rows = job.read(sf.MemorySource([{'n': 1}]))\n"
        "rows.map(lambda row: {'n': row['n'] * FACTOR}, schema={'n': sf.Int64}).collect()\n"
    )
    job, _ = loaded("job", tmp_path, file)
    sys.modules["__job_scaling__"].FACTOR = 10  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="map-1, FACTOR of <lambda>; workers import"):
        asyncio.run(job.run_async(runner="processes", processes=2))


def test_a_file_that_builds_another_job_each_time_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text(
        "import sys, streamflow as sf\n"
        "sf.setting('base', '')\n"
        "job = sf.Job('changing')\n"
        "key = 'n' if 'pytest' in sys.modules else 'm'\n"
        "job.read(sf.MemorySource([{'n': 1, 'm': 1}])).key_by(key).aggregate(all=sf.count()).collect()\n"
    )
    job, _ = loaded("job", tmp_path, file)
    with pytest.raises(ConfigError, match="another one in a worker"):
        asyncio.run(job.run_async(runner="processes", processes=2))
