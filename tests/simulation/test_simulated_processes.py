"""Several simulated processes: their network, their ends, their disk; and jobs that survive what befalls them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from streamflow.testing import simulate
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import DiskFault, SimDisk
from streamflow.testing.simulation.interventions import Intervention
from streamflow.testing.simulation.loop import PROCESS, SimLoop
from streamflow.testing.simulation.network import SimNetwork
from streamflow.testing.simulation.schedule import Incarnation, Schedule
from streamflow.testing.simulation.witness import Witness
from streamflow.testing.workers.network import End
from tests.simulation.jobs import JOBS, on_workers

ROOT = Path(__file__).resolve().parents[2]


def begun(process: str, function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function that is called as a process does."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context.run(function, *args)


class TestNetwork:
    def run(self, scenario: Callable[[SimLoop, SimNetwork, End, End], Any]) -> None:
        """Runs a scenario of one connection from process "a" to process "b"."""
        loop = SimLoop(1)
        network = SimNetwork(loop, Chance(1), 0.01)

        async def whole() -> None:
            accepted: asyncio.Future[End] = loop.create_future()
            begun("b, process 0", network.listen, "b", accepted.set_result)
            here = await begun("a, process 0", lambda: loop.create_task(network.connect("b")))
            await scenario(loop, network, here, await accepted)

        loop.run(whole())
        loop.abandon()

    def test_messages_come_in_order_and_take_a_while(self):
        async def scenario(loop: SimLoop, network: SimNetwork, here: End, there: End) -> None:
            began = loop.now
            for number in range(20):
                here.out.put(bytes([number]))
            assert [await there.into.receive() for _ in range(20)] == [
                bytes([number]) for number in range(20)
            ]
            assert loop.now > began

        self.run(scenario)

    def test_a_cut_holds_up_one_way_until_it_is_over(self):
        async def scenario(loop: SimLoop, network: SimNetwork, here: End, there: End) -> None:
            network.cut("a", "b")
            here.out.put(b"late")
            there.out.put(b"in time")
            assert await here.into.receive() == b"in time"
            waiting = asyncio.ensure_future(there.into.receive())
            await asyncio.sleep(60)
            assert not waiting.done()
            there.close()
            network.heal("a", "b")
            assert await waiting == b"late"

        self.run(scenario)

    @pytest.mark.parametrize("notice", [True, False])
    def test_the_end_of_a_process_is_noticed_or_not(self, notice: bool):
        async def scenario(loop: SimLoop, network: SimNetwork, here: End, there: End) -> None:
            there.out.put(b"last words")
            network.died("b, process 0", notice=notice)
            assert await here.into.receive() == b"last words"
            ending = asyncio.ensure_future(here.into.receive())
            await asyncio.sleep(60)
            assert ending.done() == notice
            assert here.out.broken == notice
            with pytest.raises(ConnectionRefusedError):
                await network.connect("b")

        self.run(scenario)


def test_a_killed_process_runs_nothing_more_and_a_frozen_one_goes_on():
    loop = SimLoop(1)
    said: list[str] = []

    async def counts(name: str) -> None:
        try:
            for _ in range(3):
                await asyncio.sleep(1)
                said.append(name)
        finally:
            said.append(f"{name} ends")

    async def whole() -> None:
        for name in ("killed", "frozen"):
            begun(name, lambda name=name: loop.create_task(counts(name)))
        await asyncio.sleep(1.5)
        loop.kill("killed")
        loop.freeze("frozen")
        await asyncio.sleep(10)
        assert sorted(said) == ["frozen", "killed"]
        loop.thaw("frozen")
        await asyncio.sleep(10)
        assert said[2:] == ["frozen", "frozen", "frozen ends"]

    loop.run(whole())
    assert loop.unfinished() == []
    loop.abandon()


def test_a_process_syncs_what_its_own_machine_has_named():
    disk = SimDisk()
    disk.make_folder(Path("/a"))
    disk.sync_folder(Path("/"))
    for number, process in enumerate(("worker 1, process 0", "worker 1, process 1", "worker 2, process 0")):
        begun(process, disk.write, Path(f"/a/{number}"), b"1")
        disk.sync(Path(f"/a/{number}"))
    begun("worker 1, process 1", disk.sync_folder, Path("/a"))
    seeds = [disk_after(disk, seed) for seed in range(20)]
    assert set.intersection(*seeds) == {"0", "1"}
    assert any("2" in left for left in seeds)


def disk_after(disk: SimDisk, seed: int) -> set[str]:
    """The names in a folder after a power failure."""
    disk._dead = False
    return {path.name for path in disk.crash("power", Chance(seed)).files_below(Path("/a"))}


@pytest.mark.parametrize("name", ["totals", "union"])
def test_a_reference_job_survives_on_workers(name):
    lives = on_workers(name)
    assert [outcome.failure for outcome in lives.run(range(40, 43))] == [None] * 3
    assert lives.simulation.crashed.total() > 3


def test_a_job_survives_changes_of_its_parallelism_at_any_moment():
    lives = list(on_workers("totals", rescales=0.8).run(range(8)))
    assert [outcome.failure for outcome in lives] == [None] * 8


def test_a_checkpoint_that_vanishes_while_it_is_written_is_no_fault_of_the_job():
    lives = on_workers("totals")
    for time in range(1, 9):
        vanishing = Intervention("vanish", "worker: sent Passed", time)
        incarnation = Incarnation(parallelism=3, interventions=(vanishing,))
        outcome = lives.outcome(Schedule(0, (incarnation,), workers=2, splits=2, interval=0.01))
        assert outcome.failure is None


def test_a_witness_whose_disk_fails_says_so():
    witness = Witness(SimDisk(faults=[DiskFault("broken", 0, 100)]), Path("/checkpoints"), "totals")
    witness.published()
    assert "cannot be read" in witness.damaged[0]
    assert not witness.complaints


def test_a_seed_is_one_trace_whatever_process_runs_it():
    program = (
        "from tests.simulation.jobs import on_workers\n"
        "print(*[outcome.digest for outcome in on_workers('totals').run([8, 9])])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert told.split() == [outcome.digest for outcome in on_workers("totals").run([8, 9])]


def test_users_ask_for_processes():
    simulation = simulate(JOBS["totals"], seeds=[3], rows=8, processes=2)
    assert simulation.failures == []
    assert simulation.reached["worker: sent Acknowledged"]
