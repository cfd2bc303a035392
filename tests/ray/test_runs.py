"""Jobs on workers that Ray places: the results of one process, whatever becomes of the workers."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

import streamflow as sf
from streamflow.config import Settings
from streamflow.errors import ConfigError
from streamflow.runners.ray.starting import RayWorkers
from tests.processes.running import JOBS, MADE, ROWS, RUNS, check_run, loaded, until, write_input
from tests.processes.test_runs import ON_TWO, RECORDS, check_made, taken
from tests.ray.marks import RAY

ray = pytest.importorskip("ray")
pytestmark = RAY


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ray")
    write_input(base)
    return base


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this machine with two cores, which the tests share."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def workers() -> list[psutil.Process]:
    """The processes of actors, the oldest first."""
    names = named(psutil.Process().children(recursive=True))
    found = [process for process, name in names.items() if "WorkerActor" in name]
    return sorted(found, key=lambda process: process.create_time())


def named(processes: list[psutil.Process]) -> dict[psutil.Process, str]:
    """Those that are there still, with their names."""
    names: dict[psutil.Process, str] = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            names[process] = process.name()
    return names


def test_a_command_starts_ray_and_nothing_outlives_it(base: Path) -> None:
    flags = ["--runner", "ray", "--processes", "2", "--mode", "batch", "--set", f"base={base}"]
    command = [sys.executable, "-m", "streamflow", "run", f"{JOBS}:printing", *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("worker is up") == 2
    printed = {int(line.rsplit(" ", 1)[1]) for line in result.stdout.splitlines() if "printed" in line}
    assert printed == set(range(ROWS)), "lines that differ by their numbers only are left out"

    flags = ["--runner", "ray", "--processes", "2", "--set", f"base={base}", "--set", "made=1000000"]
    command = [sys.executable, "-m", "streamflow", "run", str(MADE), "--mode", "streaming", *flags]
    driver = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in driver.stderr:
            if "job is running" in line:
                break
        names = named(driver.children(recursive=True))
    finally:
        driver.kill()
        driver.wait()
        driver.stderr.close()
    # Agents of Ray's own take a minute longer to notice.
    agents = [process for process, name in names.items() if "Agent" in name]
    _, alive = psutil.wait_procs([process for process in names if process not in agents], timeout=20)
    for agent in agents:
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    assert not alive
    assert "raylet" in names.values()


def test_a_cluster_that_does_not_answer_is_named(base: Path) -> None:
    job, _ = loaded("columns", base)
    with pytest.raises(ConfigError, match=r"Ray at 127\.0\.0\.1:1 cannot be reached"):
        asyncio.run(job.run_async(runner="ray", ray_address="127.0.0.1:1"))
    job, _ = loaded("columns", base)
    with pytest.raises(ConfigError, match="ray job submit"):
        asyncio.run(job.run_async(runner="ray", ray_address="ray://127.0.0.1:10001"))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("name", "mode", "processes"), RUNS)
def test_actors_give_the_results_of_one_process(name: str, mode: Any, processes: int, base: Path) -> None:
    more: dict[str, Any] = {"processes": processes, "worker_cpus": 0.5, "network_compression": "lz4"}
    check_run(name, base, mode, runner="ray", **more)
    _, alive = psutil.wait_procs(workers(), timeout=20)  # Ray ends them a moment later
    assert not alive


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_or_freezes_is_replaced(tmp_path: Path) -> None:
    async def whole() -> None:
        job, _ = loaded("made", tmp_path, MADE, made=2 * RECORDS)
        settings: dict[str, Any] = {**ON_TWO, "runner": "ray", "worker_timeout": "3s"}
        handle = await job.start(checkpoint_dir=tmp_path / "checkpoints", **settings)
        await until(handle, lambda: taken(handle) >= 2)
        first, second = workers()
        first.kill()
        await until(handle, lambda: handle.status().restarts == 1 and str(handle.health.state) == "running")
        assert "actor " in handle.status().notes[0]
        there = taken(handle)
        await until(handle, lambda: taken(handle) > there)
        assert second in workers()
        second.suspend()
        result = await handle.wait()
        assert result.restarts == 2

    asyncio.run(whole())
    check_made(tmp_path, 2 * RECORDS)


@pytest.mark.usefixtures("cluster")
def test_a_job_without_a_file_is_handed_over_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def job(factor: int) -> tuple[sf.Job, Any]:
        made = sf.Job("nowhere")
        read = made.read(sf.MemorySource([{"n": each} for each in range(100)]))
        return made, read.map(lambda row: {"n": row["n"] * factor}, schema={"n": sf.Int64}).collect()

    with pytest.raises(ConfigError, match="is no variable of any"):
        asyncio.run(job(3)[0].run_async(runner="ray", processes=2))
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    notebook, out = job(3)
    asyncio.run(notebook.run_async(runner="ray", processes=2))
    assert sorted(row["n"] for row in out.rows()) == [3 * each for each in range(100)]


@pytest.mark.usefixtures("cluster")
def test_it_says_how_much_room_there_is() -> None:
    async def asked(**given: Any) -> str:
        for _ in range(200):  # what was given back is counted a little later
            if ray.available_resources().get("CPU") == 2:
                break
            await asyncio.sleep(0.05)
        starter = RayWorkers("nothing", Settings.resolve(given, environ={}), None, patience=0.0)
        with pytest.raises(ConfigError) as raised:
            await starter.open(3)
        return raised.value.message

    message = asyncio.run(asked())
    assert message.startswith(
        "2 of 3 workers can be placed: each takes 1 CPU, and the cluster has 2 CPU on 1 node"
    )
    assert message.endswith("of which 2 CPU are free")
    much = asyncio.run(asked(worker_memory="100TB", worker_cpus=0.5))
    assert much.startswith("0 of 3 workers can be placed: each takes 0.5 CPU and 1.02e+05 GiB of memory")
