"""Ends of jobs on workers that nobody plans: by the user before the workers are up, by a function of the user's."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streamflow.cli import worker
from streamflow.cli.worker import imported
from streamflow.config import Secret
from streamflow.errors import ConfigError
from streamflow.runners.processes import control_server
from streamflow.runners.processes.control_server import CONTROL, ControlServer, WorkerConnection
from streamflow.runners.processes.pool import WorkerLostError
from streamflow.runners.processes.socket_folder import COORDINATOR, make_socket_folder
from streamflow.runners.processes.starting import Introduction, Subprocesses
from streamflow.runners.program import Program
from streamflow.runtime.control.framing import framed
from streamflow.runtime.control.messages import FromProcess, Hello, Told
from streamflow.runtime.control.wire import encoded
from streamflow.runtime.transport.handshake import NONCE, Opening
from tests.processes.running import MADE, counted, loaded, run, until

RUDE = Path(__file__).parent / "rude.py"


def test_a_stop_before_the_workers_are_up_is_not_forgotten(tmp_path: Path) -> None:
    async def stopped() -> int:
        job, _ = loaded("made", tmp_path, MADE, made=1_000_000)
        handle = await job.start(mode="streaming", runner="processes", processes=2)
        result = await handle.stop()
        assert result.stopped
        return handle.status().records_read

    assert asyncio.run(stopped()) < 100_000


def test_a_function_that_ends_its_process_is_named_and_the_metrics_are_those_of_all_workers(
    tmp_path: Path,
) -> None:
    async def failed() -> None:
        job, _ = loaded("rude_job", tmp_path, RUDE)
        handle = await job.start(mode="streaming", runner="processes", processes=2)
        whole = handle.registry.whole

        def memory() -> set[str]:
            return {
                metric.labels["worker"]
                for metric in whole
                if metric.name == "streamflow_worker_resident_memory_bytes" and metric.value > 1 << 20
            }

        await until(handle, lambda: memory() == {"0", "1"})
        with pytest.raises(WorkerLostError, match="exit code 7; a function of the job may have ended it"):
            await handle.wait()
        assert whole.value_of("streamflow_worker_cpu_seconds_total") > 0
        fenced = [metric for metric in whole if metric.name == "streamflow_fenced_messages_total"]
        assert {metric.labels.get("worker") for metric in fenced} == {None, "0", "1"}

    asyncio.run(failed())


def test_a_worker_that_is_killed_before_anything_has_run_is_replaced_if_there_are_checkpoints(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {"mode": "streaming", "runner": "processes", "processes": 2}
    with pytest.raises(WorkerLostError, match="was ended by SIGKILL"):
        run("killed_job", tmp_path, RUDE, **settings)
    (tmp_path / "killed").unlink()
    checkpoints = tmp_path / "checkpoints"
    rows, result = run(
        "killed_job", tmp_path, RUDE, checkpoint_dir=checkpoints, restart_delay="0s", **settings
    )
    assert rows == counted([{"n": n} for n in range(100)])
    assert result.restarts == 1


def test_a_worker_may_import_the_job_for_longer_than_a_handshake_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "_PATIENCE", 0.5)

    async def joined() -> str:
        server = ControlServer(Secret("s" * 64))
        found: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()

        def join(hello: Hello, connection: WorkerConnection) -> None:
            found.set_result(hello)
            connection.close()

        await server.open(f"unix:{tmp_path}/{COORDINATOR}", join)
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/{COORDINATOR}")

        async def answer() -> bytes:
            return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))

        opening = Opening(Secret("s" * 64), CONTROL, b"n" * NONCE)
        writer.writelines(framed(opening.hello()))
        writer.writelines(framed(opening.proof(await answer())))
        opening.welcome(await answer())
        await asyncio.sleep(0.6)  # longer than a stranger would be waited for
        hello = Hello(0, 0, 1, "here", "unix:/there", {})
        writer.writelines(framed(encoded(Told[FromProcess](0, hello))))
        hello = await found
        writer.close()
        await server.close()
        return hello.host

    assert asyncio.run(joined()) == "here"


@pytest.fixture
def short_path() -> Generator[Path]:
    """A folder whose path leaves room for a socket's: pytest's own may be too long, by the name of a test."""
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        yield Path(folder)


def test_folders_of_coordinators_that_were_killed_are_removed(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    starting, dead, alive = (Path(make_socket_folder()) for _ in range(3))
    with socket.socket(socket.AF_UNIX) as killed, socket.socket(socket.AF_UNIX) as listening:
        killed.bind(str(dead / COORDINATOR))
        listening.bind(str(alive / COORDINATOR))
        listening.listen()
        killed.close()
        new = Path(make_socket_folder())
        assert set(short_path.iterdir()) == {starting, alive, new}
        assert new.stat().st_mode & 0o777 == 0o700
        assert new.stat().st_uid == os.geteuid()


def test_a_job_that_is_made_in_the_first_process_only_is_told_to_workers_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "guarded.py"
    file.write_text(
        'import streamflow as sf\nother = sf.Job("other")\nif __name__ == "__main__":\n    job = sf.Job("guarded")\n'
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    with ExitStack() as held, pytest.raises(ConfigError, match="find no job 'job' in it") as raised:
        imported(Program.of(file, "job"), held)
    assert "true in the first process only" in str(raised.value)


SIGNALLED = """
import os, signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
asks = "import signal, sys; sys.exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)"
started = subprocess.run([sys.executable, "-c", asks]).returncode
forked = os.fork()
if not forked:
    os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
os._exit(5 + started + os.waitpid(forked, 0)[1])
"""


def test_signals_to_all_processes_are_left_to_the_coordinator_and_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal's SIGINT and systemd's SIGTERM come to workers, too, whatever they are at."""
    (tmp_path / "signalled_worker.py").write_text(SIGNALLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def ended() -> str:
        starter = Subprocesses("signalled_worker", share=1)
        await starter.open(1)
        try:
            return await (await starter.start(Introduction(0, 0, "", 10, 1 << 20, "info", None))).ended()
        finally:
            await starter.close()

    assert "exit code 5;" in asyncio.run(ended())


def test_an_interrupt_that_a_function_raises_ends_a_worker_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "_introduced", lambda: Introduction(1, 0, "", 10, 1 << 20, "info", None))
    monkeypatch.setattr(worker, "work", interrupted)
    assert worker.main() == 130
    assert capsys.readouterr().err == "worker 1 ends: a function raised KeyboardInterrupt\n"
