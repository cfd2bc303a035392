"""`check_snapshots`: an operator that is stopped and restored repeatedly has to give its undisturbed output.

The runs are those of Hazelcast Jet's TestSupport: one item and many items at a time, snapshots taken and not used, a
restore after every element and after every second one. To these come restores at another parallelism, at which each
subtask finds its keys in the snapshots of others (Flink's key groups).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any, Final, Literal, get_args

from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.testing.harness import OperatorHarness
from streamflow.testing.results import difference

__all__ = ["check_snapshots"]

_Disturbance = Literal["snapshot", "restore", "restore after every second", "rescale"]
_DISTURBANCES: Final[tuple[_Disturbance, ...]] = get_args(_Disturbance)


class _Disturbed(OperatorHarness):
    """A harness that takes snapshots between elements, and continues from them."""

    def __init__(
        self,
        spec: OperatorSpec,
        *inputs: StreamType,
        what: _Disturbance,
        parallelisms: Iterator[int],
        **options: Any,
    ) -> None:
        super().__init__(spec, *inputs, **options)
        self._what: _Disturbance = what
        self._parallelisms = parallelisms
        self._elements = 0

    def _taken(self) -> None:
        self._elements += 1
        match self._what:
            case "snapshot":
                self.snapshot()
            case "restore":
                self.restore(self.snapshot())
            case "restore after every second":
                if self._elements % 2 == 0:
                    self.restore(self.snapshot())
            case "rescale":
                self.restore(self.snapshot(), parallelism=next(self._parallelisms))


def check_snapshots(
    spec: OperatorSpec,
    *inputs: StreamType,
    script: Callable[[OperatorHarness], object],
    parallelisms: Sequence[int] = (3, 2, 1),
    batch_rows: Sequence[int | None] = (1, None),
    tolerance: float = 1e-9,
    **options: Any,
) -> None:
    """Runs a script on an operator undisturbed, and with snapshots and restores between its elements; the output has
    to be the same, in any order.

    An element is a batch of records, a watermark, an epoch or a tick of the clock. `batch_rows`: how many records a
    batch has (None: as pushed). `parallelisms` are used in turn from restore to restore. `options` are those of the
    harness. Raises AssertionError that shows the rows that differ.

    >>> import polars as pl
    >>> import streamflow as sf
    >>> from streamflow.operators.totals.running import RunningAggregateSpec
    >>> from streamflow.core.schema import Schema
    >>> events = StreamType(Schema({"k": pl.String}), timed=False)
    >>> counts = RunningAggregateSpec(keys=("k",), aggregates=(("n", sf.count()),))
    >>> check_snapshots(counts, events, script=lambda h: h.push([{"k": "a"}, {"k": "b"}, {"k": "a"}]).finish())
    """
    for rows in batch_rows:
        undisturbed = OperatorHarness(spec, *inputs, batch_rows=rows, **options)
        script(undisturbed)
        for what in _DISTURBANCES:
            disturbed = _Disturbed(
                spec, *inputs, what=what, parallelisms=cycle(parallelisms), batch_rows=rows, **options
            )
            script(disturbed)
            for name in undisturbed.outputs.keys() | disturbed.outputs.keys():
                text = difference(undisturbed.output(name), disturbed.output(name), tolerance=tolerance)
                if text:
                    size = "whole batches" if rows is None else f"batches of {rows}"
                    raise AssertionError(
                        f"{spec.kind}, output {name}, {what} between elements, {size}:\n{text}"
                    )
