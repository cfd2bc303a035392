"""The cluster of Ray in which a job's workers run: one that is there, or one of this machine, for the job alone."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final

from streamflow.config import cores
from streamflow.errors import ConfigError

__all__ = ["Cluster", "fitting", "ray"]

_LOG: Final = logging.getLogger("streamflow.workers")
_STORE: Final = 100 << 20
"""Bytes of the object store of a cluster of this machine: records do not go through it."""
_ANSWER: Final = 5.0
"""Seconds in which a cluster has to answer."""
_GIB: Final = 1 << 30


def ray() -> Any:
    """The package; raises ConfigError if it is not installed."""
    # Ray would leave out what functions and sinks print if it differs from other lines by its numbers only.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    try:
        import ray
        import ray.util.scheduling_strategies  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ConfigError(
            "runner is 'ray', and Ray is not installed here", hint="pip install 'streamflow-engine[ray]'"
        ) from error
    return ray


class Cluster:
    """The connection of this process to the cluster at `address`; None: to one that is started for it. Everything
    blocks, and is called outside of the main thread, whose signal handlers Ray would replace."""

    def __init__(self, address: str | None, *, workers: int, cpus: float, memory: int | None) -> None:
        """Each of the workers takes so many cores and bytes of memory. Raises ConfigError if the cluster cannot be
        reached."""
        self._ray = ray()
        self._bundle: dict[str, float] = {"CPU": cpus} | ({} if memory is None else {"memory": memory})
        self._groups: list[tuple[int, Any]] = []
        """Groups of places, each with its first place."""
        self._own = not self._ray.is_initialized()
        self._alone = self._own and address is None
        if self._own:
            self._connect(address, max(cores(), math.ceil(workers * cpus)))

    def _connect(self, address: str | None, cpus: int) -> None:
        if address is not None and "://" in address:
            raise ConfigError(
                f"ray_address is {address!r}",
                hint="the coordinator has to be in the cluster: ray job submit -- streamflow run … --ray-address auto",
            )
        settings: dict[str, Any] = {"address": address}
        if address not in (None, "auto"):
            _reach(str(address))
        if address is None:
            # It is nobody else's matter.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            settings = {
                "address": "local",
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _STORE,
            }
        try:
            with _quiet():
                self._ray.init(**settings, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = "cannot be started here" if address is None else f"at {address} cannot be reached"
            raise ConfigError(
                f"Ray {where}: {_first_line(error)}",
                hint="begin on a machine of the cluster, with the versions of Ray and Python that it has"
                if address is not None
                else "see /tmp/ray/session_latest/logs",
            ) from error

    @property
    def host(self) -> str:
        """The address of this machine for the others."""
        return str(self._ray.util.get_node_ip_address())

    def reserve(self, first: int, workers: int, patience: float) -> None:
        """Makes room for so many workers, in places from `first`, within so many seconds; raises ConfigError if there
        is none."""
        group = self._ray.util.placement_group([self._bundle] * workers, strategy="SPREAD")
        self._groups.append((first, group))
        if self._alone and self._fitting("Resources") < workers:
            patience = 0.0  # it does not grow
        waited, step = 0.0, min(5.0, patience)
        while not group.wait(step or 0.001):
            waited += step
            if waited >= patience:
                raise self._too_few(first + workers)
            _LOG.warning("waiting for room in the cluster of Ray, since %s", self._found(first + workers))

    def actor(self, kind: type, place: int, environment: Mapping[str, str]) -> Any:
        """The class of actors for a place that has been reserved."""
        first, group = next(each for each in reversed(self._groups) if each[0] <= place)
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=place - first
        )
        return self._ray.remote(kind).options(
            num_cpus=self._bundle["CPU"],
            memory=self._bundle.get("memory"),
            max_restarts=0,  # a worker that is lost is replaced by the pool, in another attempt
            max_task_retries=0,
            scheduling_strategy=strategy,
            runtime_env={"env_vars": dict(environment)},
        )

    def reserved(self, place: int) -> bool:
        """Whether there is room for a worker in this place."""
        return any(first <= place < first + group.bundle_count for first, group in self._groups)

    def kill(self, actor: Any) -> None:
        """Ends the process of an actor at once."""
        self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """Gives back the room; ends the cluster if it was started here."""
        for _, group in self._groups:
            self._ray.util.remove_placement_group(group)
        if self._own:
            self._ray.shutdown()

    # How much room there is.

    def _fitting(self, what: str) -> int:
        return fitting(self._bundle, [node[what] for node in self._ray.nodes() if node["Alive"]])

    def _found(self, workers: int) -> str:
        available = self._ray._private.state.available_resources_per_node().values()
        fit = fitting(self._bundle, available)
        return f"{fit} of {workers} workers can be placed: {self._room(available)}"

    def _room(self, available: Iterable[Mapping[str, float]]) -> str:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        has = _shown({name: sum(node.get(name, 0.0) for node in nodes) for name in self._bundle})
        free = _shown({name: sum(node.get(name, 0.0) for node in available) for name in self._bundle})
        count = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
        return f"each takes {_shown(self._bundle)}, and the cluster has {has} on {count}, of which {free} are free"

    def _too_few(self, workers: int) -> ConfigError:
        return ConfigError(
            self._found(workers),
            hint="give fewer processes, less worker_cpus or worker_memory, or more nodes",
        )


def _reach(address: str) -> None:
    """Raises ConfigError if nothing answers at HOST:PORT, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Ray at {address} cannot be reached: {error}",
            hint="give auto on a machine of the cluster, or HOST:PORT, like 10.0.0.1:6379",
        ) from error


@contextmanager
def _quiet() -> Generator[None]:
    """Logs only errors of Ray's own inside this context."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def fitting(bundle: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> int:
    """The number of workers that fit into the nodes, none of which is divided.

    >>> fitting({"CPU": 2.0}, [{"CPU": 5.0}, {"CPU": 1.0}, {"CPU": 2.0, "memory": 1.0}])
    3
    """
    return sum(int(min(node.get(name, 0.0) / each for name, each in bundle.items())) for node in nodes)


def _shown(amounts: Mapping[str, float]) -> str:
    memory = f" and {amounts['memory'] / _GIB:.3g} GiB of memory" if "memory" in amounts else ""
    return f"{amounts['CPU']:g} CPU{memory}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
