"""A two-phase sink on the simulated disk: sealed files become visible by a rename, and visible files are the output.

It does exactly the duties of an exactly-once sink, so that a simulation tests the runtime's half of the protocol:
seal in `prepare`, publish repeatably in `commit`, and in `restore` make the checkpoint's output visible and take
back later epochs' output.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from streamflow.core.batch import RowBatch
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.serde import frame_to_ipc, ipc_to_frame, pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.disk import Disk
from streamflow.errors import RecordError, SinkError
from streamflow.operators.connectors.files.publishing.durable_names import make_durable
from streamflow.operators.contract.sink import Committable, Committer, Delivery, Sink, SinkContext, SinkWriter
from streamflow.testing.rows import values_of
from streamflow.testing.simulation.points import WRITING

__all__ = ["CaptureSink", "captured"]

_DIGEST: Final = 8
_SLOW: Final = 0.5
"""The probability that a write takes a while, and its mean duration."""
_SLOW_SECONDS: Final = 0.002


@dataclass(frozen=True, eq=False)
class CaptureSink(Sink):
    """A stand-in for a job's own sink; writes below `folder`."""

    folder: Path
    text: str
    delivery: Delivery = "exactly_once"

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _Writer(self.folder / "staged", ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        return _Committer(self.folder, ctx)

    def describe(self) -> str:
        return self.text


def captured(disk: Disk, folder: Path) -> list[Any]:
    """The visible rows of a sink, in the order of epochs, then subtasks, then writes. Raises SinkError for a changed
    file."""
    rows: list[Any] = []
    for path in disk.files_below(folder / "visible"):
        data = disk.read(path)
        if blake2b(data[_DIGEST:], digest_size=_DIGEST).digest() != data[:_DIGEST]:
            raise SinkError(f"the visible output in {path.name} is damaged")
        for kind, content in unpack(data[_DIGEST:]):
            batch = FrameBatch(ipc_to_frame(content)) if kind == "frame" else RowBatch(unpack(content))
            rows.extend(values_of(batch))
    return rows


class _Writer:
    def __init__(self, staged: Path, ctx: SinkContext) -> None:
        self._staged = staged
        self._ctx = ctx
        self._token = ctx.random.token()
        self._batches: list[AnyBatch] = []
        self._files = 0

    async def write(self, batch: AnyBatch) -> None:
        if len(batch):
            self._batches.append(batch)
            self._ctx.reach(WRITING)
            if self._ctx.random.random() < _SLOW:
                # Like sinks that send their rows somewhere.
                await self._ctx.clock.sleep(_SLOW_SECONDS)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        batches, self._batches = self._batches, []
        if not batches:
            return ()
        self._files += 1
        name = f"{epoch:08}-{self._ctx.subtask:03}-{self._files:06}-{self._token}"
        await self._ctx.run_blocking(self._seal, name, batches)
        return [{"name": name}]

    async def close(self) -> None:
        self._batches = []

    def _seal(self, name: str, batches: list[AnyBatch]) -> None:
        content = pack([_packed(part) for part in _joined(batches)])
        path = self._staged / name
        with _told():
            if self._files == 1:
                make_durable(self._ctx.disk, self._staged)
            self._ctx.disk.write(path, blake2b(content, digest_size=_DIGEST).digest() + content)
            self._ctx.disk.sync(path)
            self._ctx.disk.sync_folder(self._staged)


class _Committer(Committer):
    def __init__(self, folder: Path, ctx: SinkContext) -> None:
        self._staged = folder / "staged"
        self._visible = folder / "visible"
        self._ctx = ctx
        self._made = False

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        await self._blocking(self._publish, committables)

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self._blocking(self._restore, epoch, committables, carried)

    async def _blocking(self, function: Callable[..., None], *args: Any) -> None:
        await self._ctx.run_blocking(function, *args)

    def _publish(self, committables: Sequence[Committable]) -> None:
        disk = self._ctx.disk
        with _told():
            if not self._made:
                make_durable(disk, self._visible)
                self._made = True
            for name in (str(piece["name"]) for piece in committables):
                if disk.exists(self._staged / name):
                    disk.rename(self._staged / name, self._visible / name)
                elif not disk.exists(self._visible / name):
                    raise SinkError(f"sealed output {name} is neither staged nor visible")
                self._ctx.reach("commit.renamed")
            disk.sync_folder(self._visible)

    def _restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable]
    ) -> None:
        disk = self._ctx.disk
        self._publish(committables)
        keep = {str(piece["name"]) for piece in (*committables, *carried)}
        with _told():
            for path in disk.files_below(self._visible):
                if path.name not in keep and int(path.name.partition("-")[0]) > epoch:
                    disk.remove(path)
            disk.sync_folder(self._visible)
            for path in disk.files_below(self._staged):
                if path.name not in keep:
                    disk.remove(path)


def _joined(batches: Sequence[AnyBatch]) -> Sequence[AnyBatch]:
    """One frame instead of several that fit together: it is read and written as a whole."""
    frames = [batch.user_frame() for batch in batches if isinstance(batch, FrameBatch)]
    if len(frames) == len(batches) and all(frame.schema == frames[0].schema for frame in frames):
        return [FrameBatch(concatenated(frames))]
    return batches


def _packed(batch: AnyBatch) -> tuple[str, bytes]:
    if isinstance(batch, FrameBatch):
        return "frame", frame_to_ipc(batch.user_frame(), "uncompressed")
    try:
        return "rows", pack(list(batch.values))
    except RecordError:
        # Objects of the user's own classes: they are compared by what they print.
        return "rows", pack([repr(value) for value in batch.values])


@contextmanager
def _told() -> Generator[None]:
    """Maps a disk's errors to a sink's."""
    try:
        yield
    except OSError as error:
        raise SinkError(f"cannot write the output: {error}", hint="see to the disk") from error
