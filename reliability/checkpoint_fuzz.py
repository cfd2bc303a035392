"""Damaged checkpoints as something that is read from outside: the right result, or an error that says clearly why.

Most inputs meet the decoder of their kind of file alone. Some are restored, by jobs that have every kind of file, and
some of those run to their end. Where digests are not made right again the result has to be the right one, or a refusal.
Where they are, damage may be another checkpoint that is well-formed, and nobody can tell; what is not well-formed has
to be refused, never by an error that nobody foresaw, and without taking the memory or the time that it asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from reliability.account import Account
from reliability.checkpoint_damage import (
    Stored,
    bad_bytes,
    bad_content,
    bad_manifest,
    files_of,
    manifests,
    refilled,
    signed,
)
from reliability.checkpoint_jobs import JOBS, PLACE, Case, made, ports, run_to_end
from reliability.fuzzing import Fuzzing
from streamflow.cli.main import main as command
from streamflow.core.serde import ipc_to_frame
from streamflow.errors import JobFailedError, StreamflowError
from streamflow.runtime.checkpoints.snapshots import described
from streamflow.runtime.checkpoints.stored_content import JobContent, SourceContent, content_of
from streamflow.state.backends.factory import open_saved
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.backends.rocksdb.backend import RocksDBBackend
from streamflow.state.backends.saved import FilesInMemory
from streamflow.state.backends.saved_memory import saved_rows
from streamflow.state.checkpoints.manifest import decode_manifest
from streamflow.state.checkpoints.tables import decode_table
from streamflow.testing.simulation.disk import SimDisk

__all__ = ["CheckpointFuzzing", "commands", "databases", "decoders", "restores", "run", "runs", "to_the_end"]

DECODED, RESTORED, RUN, DATABASES, COMMANDS = 46_000, 2_000, 400, 1_500, 150
SLOW_SECONDS = 5.0
MORE_MEMORY = 300 << 20


class _TakenUpError(StreamflowError):
    """The job has taken up the checkpoint, and the process ends."""


@dataclass
class CheckpointFuzzing(Fuzzing):
    """Attempts on checkpoints of some jobs; the slowest took so many seconds of processor time."""

    slowest: float = 0.0
    cases: list[Case] = field(default_factory=list[Case])

    def __post_init__(self) -> None:
        self.cases = [made(name, self.folder / name) for name in JOBS]

    def judge(self, what: str, attempt: Callable[[], str]) -> None:
        """Make an attempt, which says how it went; a StreamflowError that is foreseen is a refusal."""
        began = time.process_time()
        try:
            outcome = attempt()
        except StreamflowError as error:
            foreseen = not isinstance(error, JobFailedError) or error.where.code is not None
            outcome = "refused" if foreseen else f"{type(error).__name__}: {error}"
        except BaseException as error:
            if type(error) is KeyboardInterrupt:
                raise
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - began
        self.inputs += 1
        self.slowest = max(self.slowest, seconds)
        known = outcome in ("right", "refused", "well-formed")
        if not known or seconds > SLOW_SECONDS:
            self.fail(f"input {self.inputs}, {what}: {outcome} after {seconds:.1f} s")
        else:
            self.outcomes[outcome] += 1


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    fuzzing = CheckpointFuzzing(random.Random(account.seed), folder / "fuzz-checkpoints")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    share = 50 if quick else 1
    decoders(fuzzing, DECODED // share)
    databases(fuzzing, DATABASES // share)
    restores(fuzzing, RESTORED // share)
    runs(fuzzing, RUN // share)
    commands(fuzzing, COMMANDS // share)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    for each in fuzzing.wrong:
        account.fail(each)
    account.add(
        Figure("damaged checkpoints and files", fuzzing.inputs, "inputs", "≥", 0 if quick else 50_000),
        Figure("refused with an error", fuzzing.outcomes["refused"], "inputs", "≥", 0),
        Figure("another that is well-formed", fuzzing.outcomes["well-formed"], "inputs", "≥", 0),
        Figure("wrong results, foreign errors", fuzzing.outcomes["wrong"], "", "≤", 0),
        Figure("slowest", round(fuzzing.slowest, 2), "s", "≤", SLOW_SECONDS),
        Figure("more memory", round(more / 1024), "MB", "≤", MORE_MEMORY >> 20),
    )


def decoders(fuzzing: CheckpointFuzzing, count: int) -> None:
    """Each kind of file alone, by what decodes it."""
    chance = fuzzing.chance
    stored = [_files(case) for case in fuzzing.cases]
    others = [data for files in stored for _, data in files]
    for _ in range(count):
        name, data = chance.choice(chance.choice(stored))
        damaged = _damaged(name, data, others, chance)
        fuzzing.judge(f"{name} decoded", partial(_decoded, name, damaged))


def restores(fuzzing: CheckpointFuzzing, count: int) -> None:
    """Whole checkpoints, taken up by the job that they are of."""
    for _ in range(count):
        case, what, stored = _damaged_case(fuzzing)
        fuzzing.judge(f"{what} restored", partial(_restored, case, stored))


def runs(fuzzing: CheckpointFuzzing, count: int) -> None:
    """Jobs that run to their end from what they find; half of them find digests that do not fit."""
    for number in range(count):
        if number % 2:
            case, what, stored = _damaged_case(fuzzing)
            fuzzing.judge(f"{what}, run", partial(to_the_end, case, stored, tampered=True))
        else:
            case = fuzzing.chance.choice(fuzzing.cases)
            path = fuzzing.chance.choice([path for path in case.stored if path.name != "lock"])
            others = list(fuzzing.chance.choice(fuzzing.cases).stored.values())
            stored = {**case.stored, path: bad_bytes(case.stored[path], others, fuzzing.chance)}
            what = f"{path.relative_to(PLACE)} as it was damaged, run"
            fuzzing.judge(what, partial(to_the_end, case, stored, tampered=False))


def databases(fuzzing: CheckpointFuzzing, count: int) -> None:
    """The files of a RocksDB database."""
    address = StateAddress("window-1", "totals")
    folder = fuzzing.folder / "databases"
    backend = RocksDBBackend(folder / "live")
    for round_ in range(3):
        rows = [
            (group, b"%d" % key, b"%d" % (key * group * round_) * 9)
            for group in range(40)
            for key in range(20)
        ]
        backend.write(address, rows)
        backend.flush()
    saved = backend.save(folder / "saved")
    assert saved is not None
    files = {
        file.name: (file.data or b"") if file.path is None else file.path.read_bytes()
        for file in saved.files()
    }
    truth = _scanned(backend, address)
    backend.close()
    for number in range(count):
        name = fuzzing.chance.choice(list(files))
        damaged = {**files, name: bad_bytes(files[name], list(files.values()), fuzzing.chance)}

        def attempt(damaged: dict[str, bytes] = damaged, place: Path = folder / f"opened-{number}") -> str:
            opened = open_saved("rocksdb", FilesInMemory(damaged), place)
            try:
                return "right" if _scanned(opened, address) == truth else "well-formed"
            finally:
                opened.close()

        fuzzing.judge(f"{name} of a database", attempt)


def commands(fuzzing: CheckpointFuzzing, count: int) -> None:
    """The command line's views of checkpoints: whatever these hold, no unforeseen error."""
    for number in range(count):
        case, what, stored = _damaged_case(fuzzing)
        place = fuzzing.folder / f"shown-{number}"
        for path, data in stored.items():
            file = place / path.relative_to(PLACE)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        operators = [operator["id"] for operator in _body(case.stored)["operators"]]
        for arguments in (
            ["checkpoints", "list", str(place)],
            ["checkpoints", "show", str(place)],
            ["checkpoints", "show", str(place), "--json"],
            ["checkpoints", "verify", str(place)],
            ["state", str(place)],
            ["state", str(place), "--operator", fuzzing.chance.choice(operators)],
        ):
            shown = f"{what}, {' '.join(arguments[:2])}"
            fuzzing.judge(shown, partial(_commanded, arguments))


def _files(case: Case) -> list[tuple[str, bytes]]:
    """The files of a case's newest checkpoint by their names, and the manifest."""
    manifest = manifests(case.stored)[-1]
    found = [("manifest", case.stored[manifest])]
    for file in files_of(_body(case.stored)):
        blob = manifest.parents[1] / "blobs" / f"{file['generation']:010}" / file["digest"]
        found.append((file["name"], case.stored[blob]))
    return found


def _body(stored: Stored) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(stored[manifests(stored)[-1]].partition(b"\n")[2])
    return body


def _damaged(name: str, data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    if name == "manifest":
        if chance.random() < 0.6:
            return bad_manifest(data, chance)
        damaged = bad_bytes(data, others, chance)
        return damaged if chance.random() < 0.3 else signed(damaged.partition(b"\n")[2])
    return bad_content(name, data, chance) if chance.random() < 0.5 else bad_bytes(data, others, chance)


def _damaged_case(fuzzing: CheckpointFuzzing) -> tuple[Case, str, Stored]:
    """A job whose newest checkpoint is the only one, with right digests and something else that is not right."""
    chance = fuzzing.chance
    case = chance.choice(fuzzing.cases)
    manifest = manifests(case.stored)[-1]
    name, data = chance.choice(_files(case))
    others = list(chance.choice(fuzzing.cases).stored.values())
    damaged = _damaged(name, data, others, chance)
    what = f"{name} of {case.name}"
    if name == "manifest":
        older = set(manifests(case.stored))
        kept = {path: each for path, each in case.stored.items() if path not in older}
        return case, what, {**kept, manifest: damaged}
    return case, what, refilled(case.stored, manifest, name, data, damaged)


def _decoded(name: str, data: bytes) -> str:
    match name.partition("-")[0].partition("/")[0]:
        case "manifest":
            decode_manifest(data)
        case "job.msgpack":
            content_of(data, JobContent, name)
        case "source.msgpack":
            content_of(data, SourceContent, name)
        case "values.msgpack":
            described(data)
        case "table":
            decode_table(data)
        case "frames":
            ipc_to_frame(data)
        case "backend":
            list(saved_rows(FilesInMemory({name.partition("/")[2]: data})))
        case _:
            content_of(data, list[bytes], name)
    return "well-formed"


def _restored(case: Case, stored: Stored) -> str:
    def reach(point: str) -> None:
        if point == "restore.committed":
            raise _TakenUpError("it is up")

    case.again()
    try:
        asyncio.run(run_to_end(case, ports(_disk(stored), reach)))
    except _TakenUpError:
        return "well-formed"
    return "it began without its checkpoint"


def to_the_end(case: Case, stored: Stored, *, tampered: bool) -> str:
    case.again()
    asyncio.run(run_to_end(case, ports(_disk(stored))))
    if case.results() == case.right:
        return "right"
    return "well-formed" if tampered else "another result"


def _disk(stored: Stored) -> SimDisk:
    disk = SimDisk()
    for path, data in stored.items():
        disk.make_folder(path.parent)
        disk.write(path, data)
    return disk


def _scanned(backend: Any, address: StateAddress) -> dict[int, list[tuple[bytes, bytes]]]:
    return {group: list(backend.scan(address, group)) for group in backend.groups(address)}


def _commanded(arguments: list[str]) -> str:
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            code = command(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    if "unforeseen" in told.getvalue() or "Traceback" in told.getvalue() or code not in (0, 1, 2):
        return f"exit code {code}: {told.getvalue()}"
    if code and not told.getvalue() and "DAMAGED" not in said.getvalue():
        return f"exit code {code} without a word"
    return "refused" if code else "well-formed"
