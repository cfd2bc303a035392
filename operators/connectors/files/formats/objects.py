"""Columns as Python objects: a dict for each record."""

from __future__ import annotations

from collections.abc import Sequence

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.operators.connectors.files.formats.line_format import LineFormat, Sifted

__all__ = ["AsObjects"]


class AsObjects(LineFormat):
    """A parser that turns another format's columns into dicts."""

    def __init__(self, columns: LineFormat) -> None:
        self._columns = columns
        self.endless_hint = columns.endless_hint

    @property
    def by_arithmetic(self) -> bool:
        return self._columns.by_arithmetic

    def parse(self, body: bytes) -> RowBatch:
        return _dicts(self._columns.parse(body))

    def sift(self, records: Sequence[bytes]) -> Sifted:
        sifted = self._columns.sift(records)
        return Sifted(_dicts(sifted.batch), sifted.problems)

    def cut(self, data: bytes) -> int:
        return self._columns.cut(data)

    def complete(self, data: bytes) -> bool:
        return self._columns.complete(data)

    def records(self, body: bytes) -> list[tuple[int, bytes]]:
        return self._columns.records(body)


def _dicts(batch: AnyBatch) -> RowBatch:
    return RowBatch(batch.frame.to_dicts()) if isinstance(batch, FrameBatch) else batch
