"""`FileSink` under crashes: a small job on a simulated disk dies at every disk call, goes on, and nothing is lost or
there twice."""

from __future__ import annotations

import json
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pytest

from streamflow.core.serde import pack, unpack
from streamflow.disk import LocalDisk
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.contract.sink import Committable, Committer, SinkContext, SinkWriter
from streamflow.runtime.ports import Inline
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.time.clock import SeededRandom, SystemClock
from tests.unit.connectors.driving import frame, stream_type

T = TypeVar("T")
BOTH = ["kill", "power"]
KIND = stream_type(frame(n=[0], even=[False]))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


class Crash(KeyboardInterrupt):
    """The process ends."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint for a restore: how far the job had come, and its sealed output, as storage gives it back."""

    epoch: int
    rows: int
    sealed: bytes
    carried: bytes = field(default_factory=lambda: pack([]))


@dataclass
class SmallJob:
    """Writes the numbers 0, 1, 2, …, a few an epoch, through two subtasks; commits after each checkpoint."""

    sink: FileSink
    disk: Any
    checkpoints: list[Checkpoint] = field(default_factory=list)
    last_epoch: int = 0
    lives: int = 0
    failing: frozenset[int] = frozenset()
    """Epochs whose checkpoint is not published."""
    reached: list[str] = field(default_factory=list)
    allow_duplicates: bool = False
    name: str = "numbers"
    checkpointed: bool = True

    def context(self, subtask: int, restored: int | None) -> SinkContext:
        return SinkContext(
            operator_id="write-1",
            subtask=subtask,
            parallelism=2,
            clock=SystemClock(),
            random=SeededRandom(self.lives * 10 + subtask),
            run_blocking=Inline(),
            disk=self.disk,
            job=self.name,
            restored=restored,
            checkpointed=self.checkpointed,
            allow_duplicates=self.allow_duplicates,
            reach=self.reached.append,
        )

    def live(self, epochs: int, *, rows: int = 3, at_end: bool = False) -> None:
        """One life: goes on from the last checkpoint, if there is one, for so many epochs. `at_end`: its output, and
        what the last one had sealed, is committed with the last epoch alone, as in batch mode."""
        self.lives += 1
        last = self.checkpoints[-1] if self.checkpoints else None
        restored = None if last is None else last.epoch
        writers = [self.sink.writer(KIND, self.context(subtask, restored)) for subtask in range(2)]
        committer: Any = self.sink.committer(self.context(0, restored))
        try:
            self._live(last, writers, committer, epochs, rows, at_end)
        finally:
            run(committer.close())

    def _live(
        self,
        last: Checkpoint | None,
        writers: Sequence[SinkWriter],
        committer: Committer,
        epochs: int,
        rows: int,
        at_end: bool,
    ) -> None:
        done = 0
        waiting: list[Committable] = []
        if last is None:
            run(committer.begin())
        else:
            done = last.rows
            now, later = unpack(last.sealed), unpack(last.carried)
            if at_end:
                waiting, now, later = [*now, *later], [], [*now, *later]
            run(committer.restore(last.epoch, now, later))
        end = self.last_epoch + epochs
        for _ in range(epochs):
            self.last_epoch += 1
            for writer, part in zip(writers, (slice(0, rows - 1), slice(rows - 1, rows)), strict=True):
                numbers = list(range(done, done + rows))[part]
                run(writer.write(frame(n=numbers, even=[n % 2 == 0 for n in numbers])))
                waiting += run(writer.prepare(self.last_epoch))
            done += rows
            if self.last_epoch in self.failing:
                continue
            if at_end and self.last_epoch < end:
                carried = pack([dict(each) for each in waiting])
                self.checkpoints.append(Checkpoint(self.last_epoch, done, pack([]), carried))
                continue
            self.checkpoints.append(Checkpoint(self.last_epoch, done, pack([dict(each) for each in waiting])))
            run(committer.commit(self.last_epoch, waiting))
            waiting = []
        for writer in writers:
            run(writer.close())

    @property
    def visible(self) -> list[int]:
        return sorted(numbers_of(self.disk, Path(self.sink.path)))

    @property
    def expected(self) -> list[int]:
        return list(range(self.checkpoints[-1].rows if self.checkpoints else 0))

    @property
    def hidden(self) -> list[str]:
        """The files beside the output, except for the note; the run files of dead runs are empty and go with the
        next."""
        beside = hidden_of(Path(self.sink.path))
        found = [*self.disk.files_below(beside), *self.disk.folders_in(beside)]
        names = [path.relative_to(beside).as_posix() for path in found]
        return [name for name in names if not name.endswith((".json", ".run"))]


def hidden_of(target: Path) -> Path:
    """Where the sink keeps what is no output."""
    folder = target.parent if target.suffix else target
    beside = folder.with_name(f".{folder.name}.streamflow")
    return beside / target.name if target.suffix else beside


def numbers_of(disk: Any, target: Path) -> list[int]:
    """The numbers that a reader of the output finds."""
    files = [target] if target.suffix else disk.files_below(target)
    found: list[int] = []
    for path in files:
        if any(part.startswith(".") for part in path.relative_to(target.parent).parts) or not disk.exists(
            path
        ):
            continue
        body = disk.read(path)
        if path.suffix == ".ndjson":
            found += [json.loads(line)["n"] for line in body.splitlines()]
        elif path.suffix == ".csv":
            found += [int(line.split(b",")[0]) for line in body.splitlines()[1:]]
        else:
            found += pl.read_parquet(BytesIO(body))["n"].to_list()
    return found


SINKS: dict[str, dict[str, Any]] = {
    "folder": {"path": "out", "format": "ndjson"},
    "tables": {"path": "out", "roll": 1},
    "partitions": {"path": "out", "format": "ndjson", "partition_by": "even"},
    "appending": {"path": "out", "format": "ndjson", "mode": "append"},
    "overwriting": {"path": "out", "format": "ndjson", "mode": "overwrite"},
    "file": {"path": "out.ndjson"},
    "csv file": {"path": "out.csv", "mode": "append"},
    "parquet file": {"path": "out.parquet", "mode": "overwrite"},
}


@pytest.fixture(params=list(SINKS))
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> FileSink:
    options = dict(SINKS[request.param])
    return FileSink(tmp_path / options.pop("path"), **options)


def fresh(sink: FileSink, **options: Any) -> SmallJob:
    """A job on a disk on which its folder's parent lies; where it overwrites, there is old output."""
    disk = SimDisk()
    job = SmallJob(sink, disk, **options)
    if sink.mode == "overwrite":
        old = SmallJob(sink, disk, name="older", lives=90)
        old.live(3)
    return job


class Mortal:
    """A disk on which the process that uses it dies at its call number `calls`."""

    def __init__(self, disk: SimDisk, calls: int) -> None:
        self._disk = disk
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Crash
        return getattr(self._disk, name)


def dying(job: SmallJob, calls: int, loss: Any, epochs: int, seed: int, *, at_end: bool = False) -> bool:
    """A life that ends at a disk call; whether it came so far."""
    disk = job.disk
    job.disk = Mortal(disk, calls)
    try:
        job.live(epochs, at_end=at_end)
    except Crash:
        job.disk = disk.crash(loss, Chance(seed))
        return True
    job.disk = disk
    return False


@pytest.mark.parametrize("loss", BOTH)
def test_a_job_that_dies_at_any_disk_call_goes_on_as_if_nothing_had_happened(
    sink: FileSink, loss: Any
) -> None:
    # A killed process loses nothing of the disk: fewer of its deaths differ. Each run of the tests begins at another.
    step = 8 if loss == "kill" else 3
    calls = random.randrange(step)
    while True:
        job = fresh(sink)
        job.failing = frozenset([2])
        died = dying(job, calls, loss, epochs=3, seed=calls)
        if died:
            restores = bool(job.checkpoints)
            job.failing = frozenset()
            job.live(2)
            # One that starts over cannot know whether those it finds are dead.
            assert job.hidden == [] or not restores, calls
        assert job.visible == job.expected, calls
        assert len(job.expected) >= 6
        if not died:
            break
        calls += step
    assert calls > 40


@pytest.mark.parametrize("loss", BOTH)
def test_a_run_that_commits_at_its_end_goes_on_from_one_that_died_committing_at_each_epoch(
    sink: FileSink, loss: Any
) -> None:
    step = 12 if loss == "kill" else 6
    calls, died = random.randrange(step), True
    while died:
        job = fresh(sink)
        died = dying(job, calls, loss, epochs=2, seed=calls)
        for death in range(2):
            dying(job, 60 + calls % 17 * (death + 1), loss, epochs=3, seed=calls + death, at_end=True)
        job.live(2, at_end=True)
        assert job.visible == job.expected, calls
        calls += step
    assert calls > 40


def test_nothing_stays_of_a_run_without_checkpoints_that_dies_at_any_disk_call(sink: FileSink) -> None:
    """Once another one has been to its end."""
    calls, died = 0, True
    while died:
        job = fresh(sink, checkpointed=False)
        died = dying(job, calls, "kill", epochs=1, seed=calls)
        for path in job.disk.files_below(Path(sink.path).parent):
            if sink.mode == "error" and hidden_of(Path(sink.path)) not in path.parents:
                job.disk.remove(path)  # as its user does
        job.checkpoints = []
        job.live(1)
        assert job.hidden == [], calls
        calls += 2
    assert calls > 15


@pytest.mark.parametrize("seed", range(3))
def test_many_deaths_in_a_row(sink: FileSink, seed: int) -> None:
    chance = Chance(seed)
    job = fresh(sink, failing=frozenset(chance.between(1, 40) for _ in range(8)))
    for death in range(8):
        dying(job, chance.below(120), chance.one_of(BOTH), epochs=3, seed=seed * 100 + death)
    job.failing = frozenset()
    restores = bool(job.checkpoints)
    job.live(2)
    assert job.visible == job.expected
    assert job.hidden == [] or not restores


@pytest.mark.parametrize("back", [1, 2, 4])
def test_output_ahead_of_the_checkpoint_is_taken_back_where_that_is_possible(
    sink: FileSink, back: int
) -> None:
    job = fresh(sink)
    job.live(3)
    job.live(2)
    job.checkpoints = job.checkpoints[:-back]
    if Path(sink.path).suffix:
        with pytest.raises(
            SinkError, match=r"holds the output up to epoch 5, the job continues from epoch \d"
        ):
            job.live(1)
        job.allow_duplicates = True
        job.live(1)
        assert sorted(set(job.visible)) == list(range(max(15, job.expected[-1] + 1)))
        assert len(job.visible) == 15 + 3
    else:
        job.live(1)
        assert job.visible == job.expected


def test_what_was_taken_back_does_not_return_with_a_power_failure(tmp_path: Path) -> None:
    for seed in range(10):
        job = SmallJob(FileSink(tmp_path / "out", format="ndjson", partition_by="even"), SimDisk())
        job.live(4, rows=1)
        job.checkpoints = job.checkpoints[:1]
        # The next number is odd: nothing is written into the folder of the even ones, from which one was taken back.
        job.live(1, rows=1)
        job.disk = job.disk.crash("power", Chance(seed))
        job.live(3, rows=1)
        assert job.visible == job.expected


def test_a_commit_that_died_before_it_was_seen_needs_no_taking_back(sink: FileSink) -> None:
    """Wherever the commit of epoch 2 dies: going on from epoch 1 gives everything once, or says why it cannot."""
    calls, refused = random.randrange(2), 0
    while True:
        job = fresh(sink)
        job.live(1)
        if not dying(job, calls, "power", epochs=1, seed=calls):
            break
        job.checkpoints = job.checkpoints[:1]
        seen = job.visible
        try:
            job.live(1)
        except SinkError:
            refused += 1
            assert seen == [0, 1, 2, 3, 4, 5]
        else:
            assert job.visible == job.expected == [0, 1, 2, 3, 4, 5]
            assert job.hidden == []
        calls += 2
    assert refused == 0 if not Path(sink.path).suffix else refused <= 7


def test_it_says_when_each_name_has_appeared(sink: FileSink) -> None:
    job = fresh(sink)
    job.live(1)
    assert set(job.reached) == {"commit.renamed"}
    assert len(job.reached) == (1 if Path(sink.path).suffix else len(files(job)))


def files(job: SmallJob) -> list[Path]:
    return [
        path
        for path in job.disk.files_below(Path(job.sink.path))
        if not path.relative_to(job.sink.path).as_posix().startswith(".")
    ]


class TestWhoseOutputItIs:
    def test_nobody_elses_files_are_touched(self, tmp_path: Path) -> None:
        disk = SimDisk()
        sink = FileSink(tmp_path / "out", format="ndjson", mode="append")
        mine, other = SmallJob(sink, disk), SmallJob(sink, disk, name="other", lives=50)
        other.live(6)
        mine.live(3)
        # The other one dies with something staged, this one goes back to its first checkpoint.
        dying(other, 60, "kill", epochs=3, seed=0)
        mine.disk = other.disk
        staged = other.hidden
        before = other.visible
        mine.checkpoints = mine.checkpoints[:1]
        mine.live(1)
        assert staged
        assert other.hidden == staged
        assert sorted([*mine.visible, 6, 7, 8]) == before

    def test_an_earlier_run_that_appended_keeps_its_output(self, tmp_path: Path) -> None:
        disk = SimDisk()
        sink = FileSink(tmp_path / "out", format="ndjson", mode="append")
        SmallJob(sink, disk, lives=50).live(4)
        job = SmallJob(sink, disk)
        job.live(3)
        job.checkpoints = job.checkpoints[:1]
        job.live(1)
        assert job.visible == sorted([*range(12), *range(6)])

    @pytest.mark.parametrize("name", ["out", "out.ndjson"])
    def test_a_job_that_goes_on_does_not_take_what_it_did_not_write(self, tmp_path: Path, name: str) -> None:
        disk = SimDisk()
        SmallJob(FileSink(tmp_path / name, format="ndjson"), disk, name="other").live(2)
        added = SmallJob(FileSink(tmp_path / name, format="ndjson"), disk, [Checkpoint(1, 0, pack([]))])
        with pytest.raises(SinkError, match="already holds something that this job has not written"):
            added.live(1)
        assert numbers_of(disk, tmp_path / name) != []

    def test_what_was_overwritten_belongs_to_nobody_else_any_more(self, tmp_path: Path) -> None:
        disk = SimDisk()
        older = SmallJob(FileSink(tmp_path / "out", format="ndjson"), disk, name="older")
        older.live(2)
        SmallJob(FileSink(tmp_path / "out", format="ndjson", mode="overwrite"), disk, lives=9).live(4)
        with pytest.raises(SinkError, match="already holds something that this job has not written"):
            older.live(1)
        assert older.visible == list(range(12))

    def test_a_file_that_is_gone_is_said(self, tmp_path: Path) -> None:
        job = SmallJob(FileSink(tmp_path / "out.ndjson"), SimDisk())
        job.live(2)
        job.disk.remove(tmp_path / "out.ndjson")
        with pytest.raises(SinkError, match="is gone, with the output up to epoch 2"):
            job.live(1)

    def test_a_folder_that_is_gone_is_said(self, tmp_path: Path) -> None:
        job = SmallJob(FileSink(tmp_path / "out", format="ndjson"), LocalDisk())
        job.live(2)
        (tmp_path / "out").rename(tmp_path / "away")
        for _ in range(2):
            with pytest.raises(
                SinkError, match=r"out' is gone, with the output that this job has published there"
            ):
                job.live(1)
        (tmp_path / "away").rename(tmp_path / "out")
        job.live(1)
        assert job.visible == list(range(9))

    def test_a_folder_that_goes_while_the_job_runs_is_said(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "out", format="ndjson")
        context = replace(SmallJob(sink, LocalDisk()).context(0, None), checkpointed=False)
        writer, committer = sink.writer(KIND, context), sink.committer(context)
        run(writer.write(frame(n=[1], even=[False])))
        run(committer.commit(1, run(writer.prepare(1))))
        (tmp_path / "out").rename(tmp_path / "away")
        run(writer.write(frame(n=[2], even=[False])))
        sealed = run(writer.prepare(2))
        with pytest.raises(SinkError, match="is gone, with the output"):
            run(committer.commit(2, sealed))
        assert not (tmp_path / "out").exists()
        (tmp_path / "away").rename(tmp_path / "out")
        run(committer.commit(2, sealed))
        assert sorted(numbers_of(LocalDisk(), tmp_path / "out")) == [1, 2]

    def test_a_note_that_is_damaged_is_said(self, tmp_path: Path) -> None:
        job = SmallJob(FileSink(tmp_path / "out", format="ndjson"), SimDisk())
        job.live(2)
        note = next(path for path in job.disk.files_below(tmp_path) if path.suffix == ".json")
        job.disk.write(note, b"[]")
        with pytest.raises(SinkError, match="is not the note that streamflow wrote"):
            job.live(1)

    def test_a_run_without_checkpoints_leaves_no_note(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "out", format="ndjson", mode="overwrite")
        job = SmallJob(sink, SimDisk())
        job.live(2)
        context = replace(job.context(0, None), checkpointed=False)
        writer = sink.writer(KIND, context)
        run(sink.committer(context).commit(1, run(writer.prepare(1))))
        assert job.disk.files_below(tmp_path) == []


class TestAnotherPath:
    """A job that goes on may write elsewhere, once what it had sealed is published where it wrote before."""

    @pytest.mark.parametrize("name", ["out", "out.ndjson"])
    def test_after_a_clean_end_it_begins_there(self, tmp_path: Path, name: str) -> None:
        job = SmallJob(FileSink(tmp_path / name, format="ndjson"), SimDisk())
        job.live(2)
        job.sink = FileSink(tmp_path / f"new-{name}", format="ndjson")
        job.live(2)
        assert job.visible == list(range(6, 12))
        assert sorted(numbers_of(job.disk, tmp_path / name)) == list(range(6))
        job.live(1)
        assert job.visible == list(range(6, 15))

    @pytest.mark.parametrize("name", ["out", "out.ndjson"])
    def test_what_is_not_published_yet_is_not_left_behind(self, tmp_path: Path, name: str) -> None:
        sink = FileSink(tmp_path / name, format="ndjson")
        calls = 0
        while True:
            job = SmallJob(sink, SimDisk())
            job.live(1)
            assert dying(job, calls, "kill", epochs=2, seed=0)
            if len(job.checkpoints) == 2:
                break
            calls += 1
        job.sink = FileSink(tmp_path / f"new-{name}", format="ndjson")
        with pytest.raises(
            SinkError, match=r"output that is not yet published in .*; run it once more with the old"
        ):
            job.live(1)
        job.sink = sink
        job.live(1)
        assert job.visible == job.expected

    def test_a_folder_that_was_moved_goes_on(self, tmp_path: Path) -> None:
        job = SmallJob(FileSink(tmp_path / "out", format="ndjson"), LocalDisk())
        job.live(2)
        (tmp_path / "out").rename(tmp_path / "moved")
        hidden_of(tmp_path / "out").rename(hidden_of(tmp_path / "moved"))
        job.sink = FileSink(tmp_path / "moved", format="ndjson")
        job.live(1)
        assert job.visible == job.expected == list(range(9))


@pytest.mark.parametrize("name", ["out", "out.ndjson"])
@pytest.mark.parametrize("wrong", ["../mine", "/etc/mine", "a/../../mine"])
def test_names_from_a_checkpoint_lead_nowhere_else(tmp_path: Path, name: str, wrong: str) -> None:
    job = SmallJob(FileSink(tmp_path / name, format="ndjson"), SimDisk())
    job.live(1)
    (honest,) = [piece for piece in unpack(job.checkpoints[0].sealed) if "begins" in piece]
    for key in ("staged",) if Path(name).suffix else ("staged", "final"):
        piece = {**honest, "staged": "x", "final": "x", key: wrong}
        job.checkpoints[0] = replace(job.checkpoints[0], sealed=pack([piece]))
        with pytest.raises(SinkError, match="does not lie below"):
            job.live(1)


class TestCarried:
    """A batch job commits at its end: what its checkpoints carry is kept until then."""

    @pytest.mark.parametrize("name", ["out", "out.ndjson"])
    def test_what_is_still_to_be_committed_is_kept_and_not_shown(self, tmp_path: Path, name: str) -> None:
        sink = FileSink(tmp_path / name, format="ndjson")
        job = SmallJob(sink, SimDisk())
        job.lives = 1
        writer = sink.writer(KIND, job.context(0, None))
        run(writer.write(frame(n=[0, 1], even=[True, False])))
        carried = run(writer.prepare(1))
        run(writer.write(frame(n=[2], even=[True])))

        job.lives = 2
        committer: Committer = sink.committer(job.context(0, 1))
        run(committer.restore(1, [], carried))
        assert job.visible == []
        writer = sink.writer(KIND, job.context(0, 1))
        run(writer.write(frame(n=[2], even=[True])))
        run(committer.commit(2, [*carried, *run(writer.prepare(2))]))
        run(writer.close())
        assert job.visible == [0, 1, 2]


def test_staging_is_for_its_owner_and_output_for_whom_the_umask_says(tmp_path: Path) -> None:
    job = SmallJob(FileSink(tmp_path / "out", format="ndjson"), LocalDisk())
    writer = job.sink.writer(KIND, job.context(0, None))
    run(writer.write(frame(n=[1], even=[False])))
    sealed: Sequence[Committable] = run(writer.prepare(1))
    (staging,) = [path for path in hidden_of(tmp_path / "out").iterdir() if path.is_dir()]
    assert staging.stat().st_mode & 0o777 == 0o700
    run(job.sink.committer(job.context(0, None)).commit(1, sealed))
    (tmp_path / "mine").write_text("")
    (part,) = (tmp_path / "out").glob("part-*")
    assert part.stat().st_mode == (tmp_path / "mine").stat().st_mode
