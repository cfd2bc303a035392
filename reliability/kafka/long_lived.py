"""How not to do it: a transactional producer that lives through many transactions, as most programs have it.

With it the test with the proxy has to fail; if it passes, the proxy does not do what it is there for. After a failure
it does start a new one, as careful programs do: what tears is the transaction after one that went well.
"""

from streamflow.operators.connectors.kafka.clients.port import (
    KafkaClient,
    LogReader,
    LogWriter,
    Metadata,
    ProducedRecords,
)


class LongLived:
    """A `KafkaClient` whose transactional writers are one and the same, as long as nothing goes wrong with it."""

    def __init__(self, inner: KafkaClient) -> None:
        self._inner = inner
        self._kept: dict[str, LogWriter] = {}

    def reader(self, *, client_id: str) -> LogReader:
        return self._inner.reader(client_id=client_id)

    def metadata(self, *, client_id: str) -> Metadata:
        return self._inner.metadata(client_id=client_id)

    def writer(
        self,
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> LogWriter:
        fresh = self._inner.writer(
            client_id=client_id,
            transactional_id=transactional_id,
            transaction_timeout=transaction_timeout,
            compression=compression,
        )
        return fresh if transactional_id is None else _Writer(fresh, self._kept, transactional_id)


class _Writer:
    """One transaction of the producer that is kept, or of a new one."""

    def __init__(self, fresh: LogWriter, kept: dict[str, LogWriter], id: str) -> None:
        self._fresh = fresh
        self._kept = kept
        self._id = id
        self._ended = True

    @property
    def _producer(self) -> LogWriter:
        return self._kept[self._id]

    async def start(self) -> None:
        if self._id not in self._kept:
            await self._fresh.start()
            self._kept[self._id] = self._fresh

    async def begin(self) -> None:
        self._ended = False
        await self._producer.begin()

    async def write(self, records: ProducedRecords) -> None:
        await self._producer.write(records)

    async def flush(self) -> None:
        await self._producer.flush()

    async def commit(self) -> None:
        await self._producer.commit()
        self._ended = True

    async def abort(self) -> None:
        await self._producer.abort()
        self._ended = True

    async def close(self) -> None:
        """Only a producer whose transaction has not ended is closed."""
        if not self._ended:
            await self._kept.pop(self._id).close()
