"""A worker that cannot close what it has lets go all the same: nobody waits for it, and its folder is gone."""

import asyncio
from pathlib import Path

import pytest

from streamflow.api.physical import physical_plan
from streamflow.config import Secret, Settings
from streamflow.errors import StateError
from streamflow.runners.processes.service import WorkerService
from streamflow.runtime.control.messages import Cancel, Deploy, FromProcess, Leave, LetGo, Ready
from streamflow.runtime.control.plan_text import plan_text
from streamflow.runtime.ports import Ports
from streamflow.runtime.transport.sockets import SocketTransport
from streamflow.state.backends.growing import GrowingBackend
from tests.processes.running import MADE, loaded


def test_a_state_that_cannot_be_closed_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = GrowingBackend.close
    closed: list[object] = []

    def full(self: GrowingBackend) -> None:
        close(self)
        closed.append(self)
        raise StateError("the disk is full")

    monkeypatch.setattr(GrowingBackend, "close", full)

    async def let_go() -> LetGo:
        job, _ = loaded("made", tmp_path, MADE)
        settings = {"mode": "streaming", "parallelism": 2}
        told: asyncio.Queue[FromProcess] = asyncio.Queue()
        ports = Ports()
        transport = SocketTransport(Secret("s" * 64), max_frame=1 << 20)
        service = WorkerService(
            job.graph, physical_plan, transport, lambda _: ports, lambda _, message: told.put_nowait(message)
        )
        running = asyncio.create_task(service.run())
        deploy = Deploy(
            workers=1,
            worker=0,
            addresses=[""],
            settings=settings,
            run="run",
            first_epoch=1,
            checkpointed=False,
            manifest=None,
            restore_place=None,
            work=str(tmp_path / "work"),
            plan=plan_text(physical_plan(job.graph, Settings(**settings))),
        )
        last: FromProcess | None = None
        for message, answer in ((deploy, Ready), (Cancel(), LetGo)):
            service.hear(1, message)
            while not isinstance(last, answer):
                last = await told.get()
        service.hear(0, Leave())
        await running
        assert isinstance(last, LetGo)
        return last

    gone = asyncio.run(let_go())
    assert isinstance(gone.unclosed, StateError)
    assert len(closed) == len(set(map(id, closed))) == 6
    assert not (tmp_path / "work" / "worker-0").exists()
