"""The marker: it says which epoch's output is public, and is written in the transaction that made it so.

It decides after every failure whether an outbox is still to be published. The decisions are made here, without I/O;
docs/kafka-delivery.md has the table of failures behind them.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from streamflow.errors import SinkError

__all__ = ["Decision", "Marker", "PublishedByOthersError", "decide", "decide_begun", "decide_restored"]

Decision = Literal["publish", "done"]

_FORMAT: Final = 1


class PublishedByOthersError(SinkError):
    """The progress topic says that this run is not the one that publishes: trying again does not change that."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that epoch `epoch` of a line of runs is public, with the content `digest` ("" if a run began there
    without output). `incarnation` tells committers apart.

    >>> Marker.read(Marker(epoch=7, line="9f", digest="ab", incarnation="01").encoded()).epoch
    7
    """

    epoch: int
    line: str
    digest: str
    incarnation: str
    format: int = _FORMAT

    def encoded(self) -> bytes:
        """The marker as JSON, so that people can read the progress topic."""
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, value: bytes) -> Marker:
        """The marker in a record; raises SinkError for a record that is no marker of this version."""
        try:
            marker = msgspec.json.decode(value, type=cls)
        except msgspec.MsgspecError as error:
            raise PublishedByOthersError(
                f"the progress topic holds something that is no marker: {error}",
                hint="nothing but streamflow may write to it",
            ) from error
        if marker.format != _FORMAT:
            raise PublishedByOthersError(
                f"the progress topic has markers of format {marker.format}",
                hint="a newer version of streamflow wrote them: use that one",
            )
        return marker

    def publishes_the_same(self, other: Marker) -> bool:
        """Whether both say that the same content of the same epoch is public."""
        return (self.epoch, self.line, self.digest) == (other.epoch, other.line, other.digest)


def decide(found: Marker | None, before: Marker, wanted: Marker) -> Decision:
    """Whether a run that knows its last publication (`before`) has still to publish `wanted`.

    Raises PublishedByOthersError if others have published meanwhile, or acknowledged records are gone.
    """
    if found is not None and found.publishes_the_same(wanted):
        return "done"
    if found is not None and found.publishes_the_same(before):
        return "publish"
    if found is None or (found.line == before.line and found.epoch < before.epoch):
        raise _lost(found, before.epoch)
    raise PublishedByOthersError(
        f"epoch {wanted.epoch} of this job is not published: another run of it has published epoch {found.epoch}",
        hint="a job may run once: stop the other run, or give one of them another name; and write to one cluster under "
        "one address (two KafkaSinks that name it differently count as two)",
    )


def decide_begun(found: Marker | None, baseline: Marker, *, meant: bool) -> Decision:
    """Whether a run that starts without a checkpoint has to write its `baseline`.

    Raises PublishedByOthersError if the job has published before, unless it is `meant` to do so again.
    """
    if found is not None and found.publishes_the_same(baseline):
        return "done"
    if found is None or not found.digest or meant:
        return "publish"
    raise PublishedByOthersError(
        f"this job has published before, up to its epoch {found.epoch}, and there is no checkpoint to continue from: "
        "it would publish all of its input again",
        hint="give it the checkpoint_dir that it had, or restore one of its checkpoints; give another job another "
        "name; --restore none starts from the beginning all the same",
    )


def decide_restored(
    found: Marker | None,
    wanted: Marker,
    *,
    parent: int | None,
    sealed: bool,
    allow_duplicates: bool,
    known: Marker | None = None,
) -> Decision:
    """Whether a run that continues from the checkpoint of `wanted.epoch` has to publish its outbox.

    `parent`: the epoch that was committed before it, None if it was the first. `sealed`: the checkpoint has an
    outbox of this sink; a savepoint has none (its output is public), nor has a checkpoint older than the sink.
    `known`: the last publication before it; None if an old version wrote the checkpoint, which moved the marker with
    every epoch. Raises PublishedByOthersError if output cannot be made to fit the checkpoint.
    """
    if found is not None and found.publishes_the_same(wanted):
        return "done"
    if allow_duplicates:
        return "publish"
    if found is None:
        if sealed or known is not None:
            raise _lost(found, wanted.epoch if parent is None else parent)
        return "publish"
    if found.line != wanted.line:
        raise PublishedByOthersError(
            f"the public output is that of another line of runs of this job (up to its epoch {found.epoch}), "
            "which does not lead to this checkpoint",
            hint="restore a checkpoint of that line, or start with --allow-duplicates to continue from this one",
        )
    if known is not None:
        if found.publishes_the_same(known):
            return "publish" if sealed else "done"
        parent = known.epoch
    elif found.epoch == wanted.epoch and not sealed:
        return "done"
    if found.epoch >= wanted.epoch or (parent is not None and found.epoch > parent):
        raise PublishedByOthersError(
            f"output up to epoch {found.epoch} is public, but the checkpoint of epoch {wanted.epoch} does not know "
            "of it",
            hint="restore the newest checkpoint, or start with --allow-duplicates: output after this one is "
            "then published a second time",
        )
    if (sealed or known is not None) and parent is not None and found.epoch < parent:
        raise _lost(found, parent)
    return "publish"


def _lost(found: Marker | None, known: int) -> PublishedByOthersError:
    there = "nothing" if found is None else f"epoch {found.epoch}"
    return PublishedByOthersError(
        f"Kafka has lost records that it had acknowledged: epoch {known} was public, the progress topic has {there}",
        hint="check whether the topic was deleted, its replication and min.insync.replicas, and unclean leader "
        "elections; --allow-duplicates continues from the checkpoint",
    )
