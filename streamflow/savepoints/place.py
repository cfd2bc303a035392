"""Finds the checkpoints that a user means by a directory or URL, a job's name and a number."""

from __future__ import annotations

import os
import re
from typing import Final

from streamflow.config import Settings
from streamflow.disk import LocalDisk
from streamflow.errors import ConfigError, StateError, unknown_name
from streamflow.state.checkpoints.blobs import Blobs, open_blobs
from streamflow.state.checkpoints.manifest import Manifest
from streamflow.state.checkpoints.store import CheckpointStore, jobs_in
from streamflow.time.clock import SystemClock

__all__ = ["chosen_manifest", "open_job", "open_jobs", "removed_meanwhile", "split_number"]

_NUMBERED: Final = re.compile(r"(.+)#(\d{1,10})")


def split_number(place: str) -> tuple[str, int | None]:
    """A checkpoint directory, and the number behind `#`, if there is one.

    >>> split_number("s3://bucket/flights#12"), split_number("checkpoints")
    (('s3://bucket/flights', 12), ('checkpoints', None))
    """
    found = _NUMBERED.fullmatch(place)
    return (found[1], int(found[2])) if found else (place, None)


def open_jobs(
    root: str | os.PathLike[str], job: str | None = None, key: bytes | None = None, *, keep: int = 3
) -> list[CheckpointStore]:
    """The stores of all jobs below a checkpoint directory, or of the one named, for reading.

    `key` is the signing key of the manifests; by default the setting `checkpoint_key` (STREAMFLOW_CHECKPOINT_KEY).
    Raises ConfigError if there are none.
    """
    if key is None:
        secret = Settings.resolve({}).checkpoint_key
        key = None if secret is None else secret.reveal().encode()
    place = os.fspath(root)
    blobs = open_blobs(place, LocalDisk())
    jobs = jobs_in(blobs)
    if "manifests" in blobs.folders(""):
        raise ConfigError(
            f"{place} is one job's folder", hint="give the checkpoint directory, the one above it"
        )
    jobs = [name for name in jobs if "claims" in blobs.folders(name) or "manifests" in blobs.folders(name)]
    if not jobs:
        raise ConfigError(f"there are no checkpoints in {place}", hint=_near(blobs, place))
    if job is not None and job not in jobs:
        message, hint = unknown_name("job", job, jobs)
        raise ConfigError(f"{place}: {message}", hint=hint)
    clock = SystemClock()
    return [
        CheckpointStore(blobs, name, clock=clock, key=key, keep=keep) for name in jobs if job in (None, name)
    ]


def open_job(
    root: str | os.PathLike[str], job: str | None = None, key: bytes | None = None, *, keep: int = 3
) -> CheckpointStore:
    """The store of a single job, opened like `open_jobs`; raises ConfigError if there are several."""
    stores = open_jobs(root, job, key, keep=keep)
    if len(stores) > 1:
        raise ConfigError(
            f"{os.fspath(root)} has checkpoints of {len(stores)} jobs: {', '.join(each.job for each in stores)}",
            hint=f"name one: job {stores[0].job}",
        )
    return stores[0]


def chosen_manifest(store: CheckpointStore, number: int | None) -> Manifest:
    """The manifest of that number, or the newest. Raises ConfigError for a missing number."""
    numbers = store.numbers()
    if not numbers:
        raise StateError(f"job {store.job} has no checkpoint in {store.place}")
    if number is not None and number not in numbers:
        raise ConfigError(
            f"job {store.job} has no checkpoint {number} in {store.place}",
            hint=f"there are: {', '.join(map(str, numbers))}",
        )
    chosen = numbers[-1] if number is None else number
    try:
        return store.manifest(chosen)
    except StateError as error:
        if chosen not in store.numbers():
            raise removed_meanwhile(store, chosen) from error
        raise


def removed_meanwhile(store: CheckpointStore, number: int) -> StateError:
    """The error for a checkpoint that existed a moment ago: a running job removes old ones."""
    return StateError(
        f"checkpoint {number} of {store.job} was removed meanwhile",
        hint="the job is running and keeps only the newest: try again, or take a savepoint",
    )


def _near(blobs: Blobs, place: str) -> str:
    there = blobs.folders("")
    return "give the directory that checkpoint_dir says" + (
        f"; there are folders: {', '.join(there[:5])}" if there and "://" not in place else ""
    )
