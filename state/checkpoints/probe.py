"""The proof that the coordinator and a worker on another host mean the same place by the name `checkpoint_dir`.

The coordinator lays a probe, a file with random content. The worker must read it there, and lays one of its own as the
answer, which the coordinator must read. A folder with the same path on another host's disk has neither.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from streamflow.errors import ConfigError, StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.layout import JobLayout
from streamflow.time.clock import Randomness

__all__ = ["Probe", "check_probe", "lay_probe", "lift_probe"]

_LIMIT = 64


class Probe(msgspec.Struct, frozen=True):
    """The name and the content of a probe: both random, so that no file of an earlier one is taken for it."""

    name: str
    content: str


def lay_probe(blobs: Blobs, job: str, random: Randomness) -> Probe:
    """Writes a probe. Blocks; raises StateError if the place cannot be written to.

    >>> from streamflow.disk import LocalDisk
    >>> from streamflow.state.checkpoints.blobs import open_blobs
    >>> from streamflow.time.clock import SeededRandom
    >>> here, elsewhere = (open_blobs(f"memory://{name}", LocalDisk()) for name in ("here", "elsewhere"))
    >>> probe = lay_probe(here, "flights", SeededRandom())
    >>> check_probe(here, "flights", probe, host="worker-7")
    >>> try:
    ...     check_probe(elsewhere, "flights", probe, host="worker-7")
    ... except ConfigError as error:
    ...     error.message
    'checkpoint_dir memory://elsewhere is not the same folder on host worker-7'
    """
    probe = Probe(random.token(), random.token())
    if not blobs.create(JobLayout(job).probe(probe.name), probe.content.encode(), _unwatched):
        raise StateError(f"a probe {probe.name} is there already in {blobs.place}")
    return probe


def check_probe(blobs: Blobs, job: str, probe: Probe, *, host: str) -> None:
    """Raises ConfigError if the probe that the other side has laid is not in this place; `host` is the worker's.
    Blocks."""
    try:
        found = blobs.get(JobLayout(job).probe(probe.name), _LIMIT)
    except StateError as error:
        raise _elsewhere(blobs, host) from error
    if found != probe.content.encode():
        raise _elsewhere(blobs, host)


def lift_probe(blobs: Blobs, job: str, probe: Probe) -> None:
    """Removes a probe; one that cannot be removed does no harm. Blocks."""
    with suppress(StateError):
        blobs.remove(JobLayout(job).probe(probe.name))


def _elsewhere(blobs: Blobs, host: str) -> ConfigError:
    return ConfigError(
        f"checkpoint_dir {blobs.place} is not the same folder on host {host}",
        hint="use s3://… (gs://…, az://…), or mount one shared folder at this path on all hosts",
    )


def _unwatched(point: str) -> None:
    """Does nothing: no test crashes here."""
