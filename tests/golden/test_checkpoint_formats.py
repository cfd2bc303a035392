"""Checkpoints that earlier versions wrote stay readable: `checkpoint_format_<n>` is never written again.

A change that cannot read one of these needs a new format number, and code that goes on reading the old one.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from streamflow.core.serde import unpack
from streamflow.disk import LocalDisk
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.manifest import FORMAT
from streamflow.state.checkpoints.store import jobs_in
from streamflow.state.checkpoints.tables import decode_table
from tests.unit.state.checkpoints.checkpointing import local_store, take

FOLDER = Path(__file__).parent
FORMATS = sorted(int(path.name.rpartition("_")[2]) for path in FOLDER.glob("checkpoint_format_*"))
JOBS = {"flights": None, "signed": b"golden key"}


def test_there_is_one_of_every_format() -> None:
    assert list(range(1, FORMAT + 1)) == FORMATS


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("format", FORMATS)
def test_an_old_checkpoint_is_read(format: int, job: str) -> None:
    root = FOLDER / f"checkpoint_format_{format}"
    assert jobs_in(open_blobs(root, LocalDisk())) == sorted(JOBS)
    store = local_store(root, job=job, key=JOBS[job])
    assert store.numbers() == [1, 2, 3] if job == "flights" else [1, 2]
    for number in store.numbers():
        assert store.verify(number) == []
        manifest = store.manifest(number)
        assert (manifest.number, manifest.format, manifest.streamflow) == (number, format, "0.1.0")
        assert (manifest.mode, manifest.max_parallelism, manifest.finished) == ("streaming", 128, False)
        assert manifest.parent == {1: None, 2: 1, 3: None}[number]
        assert manifest.kind == ("savepoint" if number == 3 else "checkpoint")
        window = manifest.operators[1]
        assert window.signature == {
            "keys": {"carrier": "String"}, "size": 3_600_000_000, "aggregates": ["count", "mean"],
        }  # fmt: skip
        assert (window.subtasks[0].first_group, window.subtasks[0].last_group) == (0, 127)
        files = {path: store.read(file) for path, file in manifest.all_files()}
        check_files(files, number)


def check_files(files: dict[str, bytes], number: int) -> None:
    job: dict[str, Any] = unpack(files["job.msgpack"])
    assert job["sealed"] == [["write-3", {"epoch": number, "parts": ("part-0",)}]]
    assert unpack(files["read-1/0/source.msgpack"])["splits"] == [
        {"id": "flights.ndjson", "position": 4096 * number}
    ]
    assert unpack(files["window-2/0/values.msgpack"])["values"] == {"watermark": number * 1_000_000}
    assert files["window-2/0/backend/000012.sst"] == b"\x00\x01state"
    table = decode_table(files["window-2/0/table-panes"], lambda name: files[f"window-2/0/{name}"])
    (pane, frame), (last, _) = table
    assert (pane, last) == (number * 3_600_000_000, -1)
    assert frame.rows()[0] == ("AA", number, 1.5, datetime(2013, 1, 1, number))  # noqa: DTZ001


@pytest.mark.parametrize("format", FORMATS)
def test_a_job_goes_on_from_an_old_checkpoint(format: int, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / f"checkpoint_format_{format}", tmp_path / "root")
    with local_store(tmp_path / "root") as store:
        assert store.claim() == 2
        assert store.next_number() == 4
        manifest, skipped = store.latest_intact()
        assert (manifest and manifest.number, skipped) == (3, [])
        take(store, 4, {"n": b"4"}, parent=3)
        assert store.numbers() == [1, 2, 3, 4]
        assert store.verify(4) == []
