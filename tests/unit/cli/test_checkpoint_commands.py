"""`streamflow checkpoints` over made-up directories: what is told, in text and JSON, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamflow.cli.main import main
from streamflow.core.serde import pack
from streamflow.disk import LocalDisk
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry, SubtaskEntry
from streamflow.state.checkpoints.store import CheckpointStore

CREATED = 1_357_017_420_000_000
SIGNATURE = {"keys": {"origin": "String"}, "window": "tumbling(1h)"}


WAITING = {"splits": [], "final": True, "enumerator": {"seen": ["a.csv"]}}
SPLIT = {
    "id": "a.csv",
    "payload": {},
    "holds_watermark": True,
    "order": 0,
    "position": {"offset": 17},
    "watermark": 0,
}
READ = {"splits": WAITING, "subtasks": [{"splits": [SPLIT], "watermark": 0}]}


def operator_values(number: int) -> bytes:
    return pack({"values": {"at": number}, "keys": [], "tables": []})


class StoppedClock:
    def now(self) -> int:
        return CREATED

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def publish(root: Path | str, job: str, *, count: int, key: bytes | None = None) -> None:
    """Checkpoints of a job with one source and one window, whose state changes each time."""
    blobs = open_blobs(root, LocalDisk())
    with CheckpointStore(blobs, job, clock=StoppedClock(), key=key) as store:
        store.claim()
        for _ in range(count):
            writer = store.session(store.next_number())
            whole = {
                "sources": {"read-1": WAITING},
                "line": "0a",
                "sealed": [["write-1", {"file": "part-7"}]],
            }
            job_file = writer.put([pack(whole)], "job.msgpack")
            position = writer.put([pack({"splits": [SPLIT], "watermark": 0})], "source.msgpack")
            values = writer.put([operator_values(writer.number)], "values.msgpack")
            operators = (
                OperatorEntry("read-1", "read", 1, None, (SubtaskEntry(0, 0, 127, None, (position,)),)),
                OperatorEntry(
                    "window-1", "window", 1, SIGNATURE, (SubtaskEntry(0, 0, 127, "memory", (values,)),)
                ),
            )
            writer.publish(
                Manifest(number=writer.number, mode="streaming", files=(job_file,), operators=operators)
            )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STREAMFLOW_CHECKPOINT_KEY", raising=False)
    publish(tmp_path / "checkpoints", "flights", count=4)
    return tmp_path / "checkpoints"


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def told_as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(told(capsys, *arguments, "--json")[1])


def damage(root: Path, name: str) -> None:
    """Another byte in one stored file of the newest checkpoint."""
    manifest = json.loads(max((root / "flights" / "manifests").iterdir()).read_bytes().partition(b"\n")[2])
    files = [file for operator in manifest["operators"] for file in operator["subtasks"][0]["files"]]
    digest, generation = next((each["digest"], each["generation"]) for each in files if each["name"] == name)
    path = root / "flights" / "blobs" / f"{generation:010}" / digest
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def test_list_has_a_line_for_each_checkpoint_newest_first(root: Path, capsys) -> None:
    code, out, _ = told(capsys, "checkpoints", "list", root)
    header, *lines = out.splitlines()
    assert code == 0
    assert header.split() == [
        "job", "number", "kind", "created", "age", "new", "total", "operators", "generation", "mode", "notes",
    ]  # fmt: skip
    assert [line.split()[:5] for line in lines] == [
        ["flights", str(number), "checkpoint", "2013-01-01", "05:17:00"] for number in (4, 3, 2, 1)
    ]


def test_new_is_what_the_one_before_does_not_have(root: Path, capsys) -> None:
    rows = told_as_json(capsys, "checkpoints", "list", root)
    assert [row["number"] for row in rows] == [4, 3, 2, 1]
    assert rows[-1]["new_bytes"] == rows[-1]["total_bytes"]
    values = len(operator_values(4))
    assert [row["new_bytes"] for row in rows[:-1]] == [values] * 3
    assert rows[0]["parent"] == 3
    assert rows[0]["created"] == "2013-01-01T05:17:00Z"


def test_list_shows_what_cannot_be_read_beside_what_can(root: Path, capsys) -> None:
    (root / "flights" / "manifests" / f"{3:010}").write_bytes(b"nothing")
    code, out, _ = told(capsys, "checkpoints", "list", root)
    assert code == 0
    assert "it is not a manifest" in out
    assert len(out.splitlines()) == 5


def test_several_jobs_are_all_listed_or_one(root: Path, capsys) -> None:
    publish(root, "delays", count=1)
    assert {row["job"] for row in told_as_json(capsys, "checkpoints", "list", root)} == {"flights", "delays"}
    rows = told_as_json(capsys, "checkpoints", "list", root, "--job", "delays")
    assert [row["job"] for row in rows] == ["delays"]
    code, _, error = told(capsys, "checkpoints", "show", root)
    assert (code, error) == (
        2,
        f"error: {root} has checkpoints of 2 jobs: delays, flights\n  hint: name one: job delays\n",
    )
    code, _, error = told(capsys, "checkpoints", "list", root, "--job", "delay")
    assert code == 2
    assert "did you mean 'delays'?" in error


def test_show_tells_all_of_the_newest(root: Path, capsys) -> None:
    code, out, _ = told(capsys, "checkpoints", "show", root)
    assert code == 0
    assert out.startswith(
        "checkpoint 4 of flights\ncreated 2013-01-01T05:17:00Z, after 3, generation 1, run 1\n"
    )
    assert 'window-1: keys {"origin": "String"}, window tumbling(1h)' in out
    assert f"read-1: {json.dumps(READ)[:150]}" in out
    assert 'write-1: {"file": "part-7"}' in out
    assert "window-1/0/values.msgpack" in out
    assert "0–127" in out


def test_show_as_json_is_the_manifest_and_where_the_job_stood(root: Path, capsys) -> None:
    shown = told_as_json(capsys, "checkpoints", "show", root, 2)
    assert (shown["manifest"]["number"], shown["manifest"]["operators"][1]["signature"]) == (2, SIGNATURE)
    assert shown["sources"] == {"read-1": READ}
    assert shown["sealed"] == [["write-1", {"file": "part-7"}]]


def test_verify_names_what_is_damaged(root: Path, capsys) -> None:
    assert told(capsys, "checkpoints", "verify", root, "all")[0] == 0
    damage(root, "values.msgpack")
    code, out, _ = told(capsys, "checkpoints", "verify", root)
    assert code == 1
    assert out.startswith("flights 4: DAMAGED\n  window-1/0/values.msgpack: ")
    code, out, _ = told(capsys, "checkpoints", "verify", root, "all")
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("flights")] == [
        "flights 4", "flights 3", "flights 2", "flights 1",
    ]  # fmt: skip
    assert out.count("DAMAGED") == 1
    assert told(capsys, "checkpoints", "verify", root, 3)[0] == 0
    checked = told_as_json(capsys, "checkpoints", "verify", root, "all")
    assert [bool(each["problems"]) for each in checked] == [True, False, False, False]


def test_verify_reports_a_manifest_that_cannot_be_read(root: Path, capsys) -> None:
    (root / "flights" / "manifests" / f"{4:010}").write_bytes(b"nothing")
    code, out, _ = told(capsys, "checkpoints", "verify", root)
    assert code == 1
    assert "manifest: " in out


def test_prune_says_first_and_does_with_yes(root: Path, capsys) -> None:
    code, out, _ = told(capsys, "checkpoints", "prune", root, "--keep", 2)
    assert (code, out) == (0, "flights: would remove 1, 2; do it with --yes\n")
    assert len(told_as_json(capsys, "checkpoints", "list", root)) == 4
    assert told_as_json(capsys, "checkpoints", "prune", root, "--keep", 2, "--yes") == {
        "job": "flights",
        "removed": [1, 2],
    }
    assert [row["number"] for row in told_as_json(capsys, "checkpoints", "list", root)] == [4, 3]
    assert told(capsys, "checkpoints", "verify", root, "all")[0] == 0
    assert told(capsys, "checkpoints", "prune", root, "--keep", 2)[1] == "flights: nothing to remove\n"


def test_prune_leaves_a_running_jobs_checkpoints(root: Path, capsys) -> None:
    with CheckpointStore(open_blobs(root, LocalDisk()), "flights", clock=StoppedClock()) as running:
        running.claim()
        code, _, error = told(capsys, "checkpoints", "prune", root, "--keep", 1, "--yes")
    assert code == 1
    assert error.startswith("error: ")
    assert len(told_as_json(capsys, "checkpoints", "list", root)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "ROOT", "9"], "job flights has no checkpoint 9"),
        (["show", "ROOT", "newest"], "'newest' is not a checkpoint's number"),
        (["verify", "ROOT", "9"], "job flights has no checkpoint 9"),
        (["verify", "ROOT", "-1"], "'-1' is not a checkpoint's number"),
        (["prune", "ROOT", "--keep", "0"], "--keep is '0'"),
        (["prune", "ROOT", "--keep", "all"], "--keep is 'all'"),
        (["prune", "ROOT"], "--keep"),
        (["list", "ROOT/none"], "there are no checkpoints in"),
        (["list", "ROOT/flights"], "is one job's folder"),
        (["list", "ftp://host/x"], "checkpoints cannot be kept at ftp://"),
        (["lst", "ROOT"], "lst"),
    ],
)
def test_a_users_mistake_is_wrong_usage(arguments: list[str], message: str, root: Path, capsys) -> None:
    code, out, error = told(
        capsys, "checkpoints", *[argument.replace("ROOT", str(root)) for argument in arguments]
    )
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error


def test_an_object_store_is_looked_at_like_a_folder(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFLOW_CHECKPOINT_KEY", raising=False)
    publish("memory://listed", "flights", count=4)
    rows = told_as_json(capsys, "checkpoints", "list", "memory://listed")
    assert [row["number"] for row in rows] == [4, 3, 2, 1]
    assert told(capsys, "checkpoints", "verify", "memory://listed", "all")[0] == 0
    assert told(capsys, "checkpoints", "show", "memory://listed")[0] == 0
    assert told_as_json(capsys, "checkpoints", "prune", "memory://listed", "--keep", 1, "--yes")["removed"]
    code, _, error = told(capsys, "checkpoints", "list", "memory://nothing")
    assert (code, error.splitlines()[0]) == (2, "error: there are no checkpoints in memory://nothing")


def test_what_a_running_job_removes_meanwhile_is_not_called_damaged(
    root: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CheckpointStore.manifest

    def removing(store: CheckpointStore, number: int) -> Manifest:
        if number < 4:
            (root / "flights" / "manifests" / f"{number:010}").unlink(missing_ok=True)
        return read(store, number)

    monkeypatch.setattr(CheckpointStore, "manifest", removing)
    assert [row["number"] for row in told_as_json(capsys, "checkpoints", "list", root)] == [4]
    publish(root, "flights", count=1)
    code, out, _ = told(capsys, "checkpoints", "verify", root, "all")
    assert (code, "DAMAGED" in out) == (0, False)


def test_signed_checkpoints_need_their_key(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFLOW_CHECKPOINT_KEY", raising=False)
    publish(tmp_path, "flights", count=1, key=b"the right key")
    assert told(capsys, "checkpoints", "show", tmp_path)[0] == 1
    assert "signed" in told(capsys, "checkpoints", "verify", tmp_path)[1]
    monkeypatch.setenv("STREAMFLOW_CHECKPOINT_KEY", "the right key")
    assert told(capsys, "checkpoints", "show", tmp_path)[0] == 0
    assert told(capsys, "checkpoints", "verify", tmp_path)[0] == 0
    monkeypatch.setenv("STREAMFLOW_CHECKPOINT_KEY", "another key")
    code, out, _ = told(capsys, "checkpoints", "verify", tmp_path)
    assert code == 1
    assert "manifest" in out
