"""A reader of one partition: fetches chunks as they come; each decodes to a batch on a thread."""

from __future__ import annotations

from functools import partial
from typing import Final

from streamflow.operators.connectors.kafka.clients.port import (
    GonePartitionError,
    LostRecordsError,
    TopicPartition,
)
from streamflow.operators.connectors.kafka.record_batches import RecordBatches
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.contract.source import Fetch

__all__ = ["PartitionReader"]

_WAIT_SECONDS: Final = 1.0


class PartitionReader:
    """A `SplitReader` of one partition, from offset `start` up to `end` (None: for ever). Position: the next offset.

    The end has been reached when the position is there, whether or not the log has a record just before it:
    transaction markers, aborted and compacted records have offsets, too. `goes_on`: a deleted partition has come to
    its end, with a warning; otherwise it is an error. `skips_lost`: likewise records that retention has deleted
    before they were read are left out.
    """

    def __init__(
        self,
        session: KafkaSession,
        partition: TopicPartition,
        *,
        start: int,
        end: int | None,
        batches: RecordBatches,
        most: int,
        goes_on: bool = False,
        skips_lost: bool = False,
    ) -> None:
        self._session = session
        self._partition = partition
        self._offset = start
        self._end = end
        self._batches = batches
        self._most = most
        self._goes_on = goes_on
        self._skips_lost = skips_lost
        self._open = False

    async def fetch(self) -> Fetch | None:
        while self._end is None or self._offset < self._end:
            if not self._open:
                # Also if this call does not come to its end: the connection that it has opened is closed then.
                self._open = True
                await self._session.open(self._partition, self._offset)
            try:
                chunk = await self._session.fetch(self._partition, seconds=_WAIT_SECONDS, most=self._most)
            except LostRecordsError as error:
                if not self._skips_lost:
                    error.hint = f'{error.hint}; lost="skip" keeps the state and continues from {error.first}'
                    raise
                await self._session.skip_lost(self._partition, self._offset, error.first)
                self._offset = error.first
                continue
            except GonePartitionError as error:
                if not self._goes_on:
                    error.hint = f'{error.hint}; deleted="end" reads the others on'
                    raise
                self._session.tell_gone(self._partition, self._offset)
                return None
            if chunk is None:
                continue
            self._offset = chunk.next_offset
            if chunk.nbytes == 0:
                # Only the position has moved: there is nothing to report.
                continue
            offset = chunk.next_offset if self._end is None else min(chunk.next_offset, self._end)
            return Fetch(
                partial(self._batches.decode, chunk, self._partition, self._end),
                {"offset": offset},
                chunk.nbytes,
            )
        return None

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._session.close(self._partition)
