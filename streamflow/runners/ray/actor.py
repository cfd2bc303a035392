"""The actor in whose process a worker runs. Ray's methods only start it and hear of its end: the worker has a thread of
its own, and speaks to the coordinator and to other workers over its own connections."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from importlib import import_module

import msgspec
from msgspec.structs import replace

from streamflow.graph.logical import LogicalGraph
from streamflow.runners.processes.starting import Introduction
from streamflow.runners.ray.cluster import ray
from streamflow.runtime.transport.addresses import tcp

__all__ = ["WorkerActor"]


class WorkerActor:
    """Runs `work(introduction, graph)` of the module on the thread. `told` is the encoded introduction, `ports` are
    those to listen on for other workers; `graph` is the job's if the introduction names no program."""

    def __init__(self, module: str, told: bytes, ports: str, graph: LogicalGraph | None) -> None:
        introduction = msgspec.msgpack.decode(told, type=Introduction)
        if introduction.program is not None:
            with suppress(OSError):  # on this host there may be no such folder
                os.chdir(introduction.program.folder)
        # Ray would raise SystemExit in the midst of anything; by this time nothing is left to be done.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._introduction = replace(introduction, data=tcp(ray().util.get_node_ip_address(), ports))
        self._graph = graph
        self._module = module
        self._outcome = "it left"
        self._thread = threading.Thread(target=self._work, name="streamflow-worker", daemon=True)
        self._thread.start()

    def ended(self) -> str:
        """Waits for the worker's end, and says how that was."""
        self._thread.join()
        return self._outcome

    def _work(self) -> None:
        try:
            import_module(self._module).work(self._introduction, self._graph)
        except KeyboardInterrupt:
            self._outcome = "a function raised KeyboardInterrupt"
        except Exception as error:  # noqa: BLE001 — told by `ended`
            self._outcome = f"{error}"
