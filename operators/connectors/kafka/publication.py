"""The committer of all of a job's Kafka sinks on one cluster: an epoch's outboxes become public in one transaction.

Each attempt has a producer of its own, whose start fences every other of the transactional id and forces a decision
on their open transactions; only then is the marker read, and only if it says so are the records sent, with the new
marker among them. A late `EndTxn` of an earlier attempt meets a newer producer epoch and is refused.
docs/kafka-delivery.md goes through every failure.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from streamflow.errors import SinkError, SourceError
from streamflow.observe.logs import reason, told
from streamflow.operators.connectors.kafka.clients.port import (
    KafkaClient,
    LogWriter,
    OutcomeUnknownError,
    RefusedError,
)
from streamflow.operators.connectors.kafka.marker import (
    Decision,
    Marker,
    PublishedByOthersError,
    decide,
    decide_begun,
    decide_restored,
)
from streamflow.operators.connectors.kafka.outbox import Sealed, sealed_digest, unpacked
from streamflow.operators.connectors.kafka.progress import Progress
from streamflow.operators.contract.sink import Committable, Committer, SinkContext

__all__ = ["KafkaCommitter", "PublicationSettings"]

_LOG = logging.getLogger("streamflow.kafka")

_PAUSES: Final = (0.05, 0.1, 0.2, 0.5)
"""Seconds between attempts; the last value repeats."""

_LONGEST: Final = 900_000_000
"""The longest transaction in microseconds that brokers allow by default."""
_SLOWEST: Final = 4
"""Bytes of an outbox that are sent in each microsecond, at the slowest."""

_Judge = Callable[[Marker | None], Decision]


@dataclass(frozen=True, slots=True)
class PublicationSettings:
    """The settings of publication: `transaction_timeout` bounds one attempt at the broker, `patience` all attempts
    (microseconds). Both are longer for output that takes longer to send."""

    transaction_timeout: int
    patience: int
    compression: str | None


class KafkaCommitter(Committer):
    """The committer of epochs; see the module. Not to be called from two tasks at once.

    A run with checkpoints keeps a marker. One without has transactions only: an epoch appears as a whole, and if the
    end of a transaction is not confirmed the job fails, since nothing could tell its outcome.
    """

    def __init__(self, client: KafkaClient, settings: PublicationSettings, ctx: SinkContext) -> None:
        self._client = client
        self._settings = settings
        self._ctx = ctx
        self._id = f"streamflow.{ctx.job}.sink"
        self._client_id = f"streamflow-{ctx.job}"
        self._incarnation = ctx.random.token()
        self._published: Marker | None = None
        self._progress: Progress | None = None
        if ctx.checkpointed:
            self._progress = Progress(
                client,
                ctx.clock,
                topic=f"streamflow.{ctx.job}.progress",
                key=self._id,
                client_id=self._client_id,
                patience=settings.transaction_timeout / 1e6,
            )
        metrics = ctx.metrics
        self._seconds = metrics.gauge("streamflow_publication_seconds", "How long the last publication took")
        self._count = metrics.counter("streamflow_publications_total", "Epochs published")
        self._retries = metrics.counter(
            "streamflow_publication_retries_total", "Attempts to publish that were repeated"
        )
        self._at = metrics.gauge(
            "streamflow_publication_timestamp_seconds", "When the last epoch was published (Unix time)"
        )

    async def begin(self) -> None:
        """Fences earlier producers of this name; their published output stays."""
        await self._reach_brokers()
        baseline = self._marker(self._ctx.first_epoch - 1, "")

        def judge(found: Marker | None) -> Decision:
            return decide_begun(found, baseline, meant=self._ctx.from_start or self._ctx.allow_duplicates)

        await self._insist(baseline, (), judge)

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        if self._published is None:
            await self.begin()
        before = self._published
        assert before is not None
        sealed, wanted = self._read(epoch, committables)
        if not any(one.records for one in sealed):
            # The marker stays where it is: its statement has not changed.
            return
        await self._timed(self._insist(wanted, sealed, lambda found: decide(found, before, wanted)))

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self._reach_brokers()
        sealed, wanted = self._read(epoch, committables)
        known = None if self._ctx.noted is None else Marker(incarnation="", **self._ctx.noted)

        records = any(one.records for one in sealed)

        def judge(found: Marker | None) -> Decision:
            decision = decide_restored(
                found,
                wanted,
                parent=self._ctx.restored_parent,
                sealed=records,
                allow_duplicates=self._ctx.allow_duplicates,
                known=known,
            )
            # With nothing to publish there is nothing to mark.
            return decision if records or found is None or self._ctx.allow_duplicates else "done"

        await self._timed(self._insist(wanted, sealed, judge))

    def note(self) -> Mapping[str, Any] | None:
        last = self._published
        return None if last is None else {"epoch": last.epoch, "line": last.line, "digest": last.digest}

    async def close(self) -> None:
        if self._progress is not None:
            await self._progress.close()

    async def _reach_brokers(self) -> None:
        """Connects once, before anything begins: the start waits for `patience` only if the job has run before."""
        metadata = self._client.metadata(client_id=self._client_id)
        try:
            try:
                await metadata.start()
            finally:
                await metadata.close()
        except SourceError as error:
            raise SinkError(error.message, hint=error.hint) from error

    def _read(self, epoch: int, committables: Sequence[Committable]) -> tuple[Sequence[Sealed], Marker]:
        """The sealed output, in the order of publication, and the marker for it."""
        # The same in any order: from a checkpoint the order may differ.
        sealed = sorted(map(Sealed.of, committables), key=lambda one: (one.epoch, one.subtask, one.digest))
        return sealed, self._marker(epoch, sealed_digest(sealed))

    def _marker(self, epoch: int, digest: str) -> Marker:
        return Marker(epoch=epoch, line=self._ctx.line, digest=digest, incarnation=self._incarnation)

    async def _timed(self, publication: Awaitable[None]) -> None:
        clock = self._ctx.clock
        began = clock.monotonic()
        await publication
        self._seconds.set(clock.monotonic() - began)
        self._count.add()
        self._at.set(clock.now() / 1e6)

    async def _insist(self, wanted: Marker, sealed: Sequence[Sealed], judge: _Judge) -> None:
        """Publishes, and repeats until the output is known to be public."""
        clock = self._ctx.clock
        sending = sum(len(chunk) for one in sealed for chunk in one.chunks) // _SLOWEST
        patience = (self._settings.patience + 2 * sending) / 1e6
        give_up = clock.monotonic() + patience
        attempts = 0
        while True:
            try:
                self._published = await self._attempt(wanted, sealed, judge, sending << attempts)
            except (RefusedError, PublishedByOthersError):
                raise
            except (SinkError, OutcomeUnknownError) as error:
                pause = _PAUSES[min(attempts, len(_PAUSES) - 1)]
                if clock.monotonic() + pause > give_up:
                    raise SinkError(
                        f"epoch {wanted.epoch} could not be published within {patience:g} s: {error}",
                        hint="nothing is lost: the checkpoint holds it, and the next start publishes it",
                    ) from error
                if isinstance(error, OutcomeUnknownError) and self._progress is None:
                    raise SinkError(
                        f"it is unknown whether epoch {wanted.epoch} is public: {error}",
                        hint="run with checkpoints: then a marker tells",
                    ) from error
                attempts += 1
                self._retries.add()
                facts = told(epoch=wanted.epoch, attempt=attempts, error=reason(error))
                _LOG.warning("epoch is not published yet; trying again", extra=facts)
                await clock.sleep(pause)
            else:
                return

    async def _attempt(self, wanted: Marker, sealed: Sequence[Sealed], judge: _Judge, sending: int) -> Marker:
        """Makes one attempt and returns the resulting marker; `sending` is the microseconds that sending may take."""
        writer = await self._fencing(sending)
        try:
            self._ctx.reach("kafka.fenced")
            if self._progress is not None:
                found = await self._progress.newest()
                self._ctx.reach("kafka.marker_read")
                if judge(found) == "done":
                    assert found is not None
                    return found
            elif not sealed:
                return wanted
            await self._send(writer, wanted, sealed)
            return wanted
        finally:
            await writer.close()

    async def _fencing(self, sending: int) -> LogWriter:
        """A writer that has fenced all others. Its transaction may take as long as its output needs; if brokers
        refuse one that long, as long as the setting says."""
        least = self._settings.transaction_timeout
        longer = min(least + sending, _LONGEST)
        if longer > least:
            with suppress(RefusedError):
                return await self._started(longer)
        return await self._started(least)

    async def _started(self, open_for: int) -> LogWriter:
        writer = self._client.writer(
            client_id=self._client_id,
            transactional_id=self._id,
            transaction_timeout=open_for,
            compression=self._settings.compression,
        )
        try:
            await writer.start()
        except BaseException:
            await writer.close()
            raise
        return writer

    async def _send(self, writer: LogWriter, wanted: Marker, sealed: Sequence[Sealed]) -> None:
        await writer.begin()
        self._ctx.reach("kafka.begun")
        try:
            for one in sealed:
                for chunk in one.chunks:
                    for records in await self._ctx.run_blocking(unpacked, chunk):
                        await writer.write(records)
            if self._progress is not None:
                await writer.write(self._progress.record(wanted))
            await writer.flush()
        except RefusedError:
            # Readers of committed records wait for an open transaction until it times out.
            with suppress(SinkError):
                await writer.abort()
            raise
        self._ctx.reach("kafka.sent")
        await writer.commit()
        self._ctx.reach("kafka.committed")
