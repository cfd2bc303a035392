"""The file sink in seeded lives: on a disk that loses what was not synced, its files hold each result once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

import streamflow as sf
from streamflow.disk import Disk
from streamflow.testing import simulate
from tests.simulation.jobs import read

OUT = Path("/files")


def a_job() -> sf.Job:
    job = sf.Job("files")
    windows = read(job).key_by("key").window(sf.tumbling("5s"))
    windows.aggregate(n=sf.count(), total=sf.sum("value")).collect()
    return job


def in_folder(disk: Disk) -> list[Any]:
    """The rows of all files that are visible."""
    rows: list[Any] = []
    for path in disk.files_below(OUT):
        if not any(part.startswith(".") for part in path.relative_to(OUT).parts):
            rows.extend(pl.read_parquet(io.BytesIO(disk.read(path))).to_dicts())
    return rows


def in_file(disk: Disk) -> list[Any]:
    path = OUT.with_suffix(".ndjson")
    return pl.read_ndjson(io.BytesIO(disk.read(path))).to_dicts() if disk.exists(path) else []


def test_a_folder_of_files():
    sink = sf.FileSink(str(OUT), format="parquet")
    simulation = simulate(a_job(), seeds=15, sinks={"write-1": (sink, in_folder)})
    assert simulation.crashed["commit.renamed"]


def test_one_file():
    sink = sf.FileSink(str(OUT.with_suffix(".ndjson")), format="ndjson")
    assert simulate(a_job(), seeds=15, sinks={"write-1": (sink, in_file)}, odds={"rot": 0}).failures == []
