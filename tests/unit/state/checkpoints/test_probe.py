"""Probes: whether two processes mean the same place by a path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streamflow.disk import LocalDisk
from streamflow.errors import ConfigError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.local_blobs import LocalBlobs
from streamflow.state.checkpoints.object_blobs import ObjectBlobs
from streamflow.state.checkpoints.probe import Probe, check_probe, lay_probe, lift_probe
from streamflow.time.clock import SeededRandom
from tests.unit.state.checkpoints.checkpointing import local_store

WORKER = """
import sys
import msgspec
from streamflow.disk import LocalDisk
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.probe import Probe, check_probe, lay_probe
from streamflow.time.clock import SeededRandom

blobs = open_blobs(sys.argv[1], LocalDisk(), exclusive=False)
check_probe(blobs, "flights", Probe(*sys.argv[2:]), host="there")
sys.stdout.buffer.write(msgspec.json.encode(lay_probe(blobs, "flights", SeededRandom())))
"""


def folder(path: Path, *, exclusive: bool = False) -> LocalBlobs:
    return LocalBlobs(path, LocalDisk(), exclusive=exclusive)


def test_a_shared_folder_is_proved_both_ways_by_two_processes(tmp_path: Path) -> None:
    own = folder(tmp_path, exclusive=True)
    probe = lay_probe(own, "flights", SeededRandom())
    command = [sys.executable, "-c", WORKER, tmp_path, probe.name, probe.content]
    answer = msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout, type=Probe)
    check_probe(own, "flights", answer, host="there")
    for each in (probe, answer):
        lift_probe(own, "flights", each)
        lift_probe(own, "flights", each)
    assert own.entries("flights/probes") == []


@pytest.mark.parametrize(
    "elsewhere", [lambda path: folder(path / "there"), lambda _: ObjectBlobs("memory://elsewhere")]
)
def test_another_place_is_refused_with_its_host_and_what_to_do(tmp_path: Path, elsewhere) -> None:
    probe = lay_probe(folder(tmp_path / "here"), "flights", SeededRandom())
    other: Blobs = elsewhere(tmp_path)
    with pytest.raises(ConfigError) as refused:
        check_probe(other, "flights", probe, host="node-3")
    assert refused.value.message == f"checkpoint_dir {other.place} is not the same folder on host node-3"
    assert "s3://" in (refused.value.hint or "")


def test_an_answer_that_the_coordinator_cannot_read_is_refused(tmp_path: Path) -> None:
    """A worker may see the coordinator's files in a copy of the folder, to which it writes by itself."""
    answer = lay_probe(folder(tmp_path / "there"), "flights", SeededRandom())
    with pytest.raises(ConfigError, match="not the same folder on host node-3"):
        check_probe(folder(tmp_path / "here"), "flights", answer, host="node-3")


def test_other_content_under_the_same_name_proves_nothing(tmp_path: Path) -> None:
    probe = lay_probe(folder(tmp_path), "flights", SeededRandom())
    with pytest.raises(ConfigError, match="not the same folder"):
        check_probe(folder(tmp_path), "flights", Probe(probe.name, "other"), host="node-3")


def test_probes_of_dead_coordinators_go_when_the_job_is_taken_over(tmp_path: Path) -> None:
    lay_probe(folder(tmp_path), "flights", SeededRandom())
    with local_store(tmp_path) as store:
        store.claim()
        assert store.blobs.entries("flights/probes") == []
