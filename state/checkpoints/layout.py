"""The layout of a job's checkpoints below a root.

<job>/lock                              held by the process that runs the job (local folders)
<job>/claims/<incarnation>              who runs it: the highest one may publish
<job>/blobs/<generation>/<digest>       content
<job>/manifests/<number>                what a checkpoint consists of; made last, in one step
<job>/quarantine/<number>.<n>           manifests that were set aside, and why
<job>/probes/<name>                     files that show other hosts whether this is their place, too
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import BlobEntry
from streamflow.state.checkpoints.manifest import StoredFile

__all__ = ["JobLayout", "is_job", "name_of", "numbers_of"]

_JOB: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NUMBER: Final = re.compile(r"[0-9]{10}")


class JobLayout:
    """The keys of one job.

    >>> JobLayout("flights").manifest(7)
    'flights/manifests/0000000007'
    """

    def __init__(self, job: str) -> None:
        if not is_job(job):
            raise StateError(
                f"{job!r} cannot be a job's name in a checkpoint directory",
                hint="use 1 to 63 lower-case letters, digits, '-' and '_', beginning with a letter or digit",
            )
        self.job = job
        self.lock = f"{job}/lock"
        self.claims = f"{job}/claims"
        self.published = f"{job}/claims/published"
        """A key that exists since the first checkpoint was published, so that the loss of all of them is noticed."""
        self.blobs = f"{job}/blobs"
        self.manifests = f"{job}/manifests"
        self.quarantine = f"{job}/quarantine"
        self.probes = f"{job}/probes"

    def probe(self, name: str) -> str:
        return f"{self.probes}/{name}"

    def claim(self, incarnation: int) -> str:
        return f"{self.claims}/{incarnation:010}"

    def manifest(self, number: int) -> str:
        return f"{self.manifests}/{number:010}"

    def generation(self, generation: int) -> str:
        return f"{self.blobs}/{generation:010}"

    def content(self, file: StoredFile) -> str:
        return f"{self.blobs}/{file.generation:010}/{file.digest}"


def is_job(name: str) -> bool:
    """Whether a job can have this name."""
    return _JOB.fullmatch(name) is not None


def name_of(key: str) -> str:
    """The last part of a key.

    >>> name_of("flights/manifests/0000000007")
    '0000000007'
    """
    return key.rpartition("/")[2]


def numbers_of(entries: Iterable[BlobEntry]) -> list[int]:
    """The numbers that name entries, ascending; other names do not count."""
    names = (name_of(entry.key) for entry in entries)
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))
