"""`FusedColumns`: several column operators in a row, as one lazy Polars query per batch.

Polars then makes no frame between them: splitting lines into words and counting them takes a third of the time. If
the query fails, or its result is not valid, the batch goes through the operators one by one, each with its own error
policy, and the right one reports the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    BatchFunction,
    Collector,
    Layout,
    OperatorContext,
    OperatorSpec,
    PureSpec,
)
from streamflow.operators.kernels.engine import collected

__all__ = ["FusedColumns", "fused"]


@dataclass(frozen=True, eq=False)
class FusedColumns(PureSpec):
    """Operators with their ids, each of which is a query over frames."""

    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    parts: tuple[tuple[str, PureSpec], ...] = ()
    kind: ClassVar[str] = "fused"

    def types(self, inputs: Sequence[StreamType]) -> list[StreamType]:
        """The input type of each part, and the output's."""
        types = [inputs[0]]
        for _, spec in self.parts:
            types.append(spec.output_type([types[-1]]))
        return types

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return self.types(inputs)[-1]

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        return fused(self.parts, following, following_id)

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return all(spec.keeps_partitioning(keys) for _, spec in self.parts)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        types = self.types(inputs)
        for (_, spec), before in zip(reversed(self.parts), reversed(types[:-1]), strict=True):
            needed = spec.needed_columns(needed, [before])
        return needed

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        types = self.types(inputs)
        queries = [spec.query([before]) for (_, spec), before in zip(self.parts, types[:-1], strict=True)]
        one_by_one = [
            spec.function(replace(ctx, operator_id=id), [before])
            for (id, spec), before in zip(self.parts, types[:-1], strict=True)
        ]

        def attempt(frame: pl.DataFrame) -> pl.DataFrame | None:
            lazy = frame.lazy()
            for query in queries:
                if query is None:
                    return None
                lazy = query(lazy)
            try:
                result = collected(lazy, frame.height)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
                return None
            return result if all(spec.stands(result) for _, spec in self.parts) else None

        def run(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            result = attempt(batch.frame)
            if result is not None:
                out.emit(FrameBatch(result))
            else:
                _Stages(one_by_one, out).emit(batch)

        return run

    def describe(self) -> str:
        return " → ".join(f"{spec.kind} {spec.describe()}".rstrip() for _, spec in self.parts)


@dataclass(slots=True)
class _Stages:
    """The collector in front of the remaining functions: emitted batches go through them."""

    functions: Sequence[BatchFunction]
    out: Collector

    def emit(self, batch: AnyBatch) -> None:
        if not self.functions:
            self.out.emit(batch)
        elif len(batch):
            self.functions[0](batch, _Stages(self.functions[1:], self.out))

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        self.out.emit_to(output, batch)

    def connected(self, output: str) -> bool:
        return self.out.connected(output)


def fused(
    parts: tuple[tuple[str, PureSpec], ...], following: OperatorSpec, following_id: str
) -> FusedColumns | None:
    """The parts and `following` as one operator, if `following` is a query too; None otherwise."""
    if not isinstance(following, PureSpec) or not following.is_query:
        return None
    return FusedColumns((*parts, (following_id, following)))
