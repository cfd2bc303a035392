"""The coordinator's side of the proof that workers, which may be on other hosts, have the folder of its checkpoints."""

from __future__ import annotations

from streamflow.config import Settings
from streamflow.runtime.ports import Ports
from streamflow.state.checkpoints.blobs import Blobs, open_blobs
from streamflow.state.checkpoints.probe import Probe, check_probe, lay_probe, lift_probe

__all__ = ["SharedPlace", "place_to_prove"]


def place_to_prove(settings: Settings) -> str | None:
    """The place of the checkpoints if it is a folder and workers may be on other hosts, which Ray's may.

    >>> place_to_prove(Settings(runner="ray", checkpoint_dir="s3://bucket/job")) is None
    True
    >>> place_to_prove(Settings(runner="ray", checkpoint_dir="/mnt/checkpoints"))
    '/mnt/checkpoints'
    """
    place = settings.checkpoint_dir
    if settings.runner != "ray" or place is None or ("://" in place and not place.startswith("file://")):
        return None
    return place


class SharedPlace:
    """The probes of one attempt in `place`; `open` first, `close` last."""

    def __init__(self, place: str, job: str, ports: Ports) -> None:
        self._place = place
        self._job = job
        self._ports = ports
        self._blobs: Blobs | None = None
        self.probe: Probe | None = None
        """The coordinator's own, which every worker has to find."""

    async def open(self) -> None:
        """Lays the coordinator's probe; raises StateError if the place cannot be written to."""
        self._blobs = open_blobs(self._place, self._ports.disk, exclusive=False)
        self.probe = await self._ports.uploads(lay_probe, self._blobs, self._job, self._ports.random)

    async def check(self, answer: Probe, host: str) -> None:
        """Raises ConfigError if the probe that a worker on that host has laid is not here; removes it."""
        assert self._blobs is not None
        await self._ports.uploads(self._check, self._blobs, answer, host)

    def _check(self, blobs: Blobs, answer: Probe, host: str) -> None:
        check_probe(blobs, self._job, answer, host=host)
        lift_probe(blobs, self._job, answer)

    async def close(self) -> None:
        """Removes the coordinator's probe."""
        if self._blobs is not None and self.probe is not None:
            await self._ports.uploads(lift_probe, self._blobs, self._job, self.probe)
