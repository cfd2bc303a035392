"""The enumerator of sources whose splits are known from the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamflow.operators.contract.source import Discovery, Split

__all__ = ["FixedSplits"]


class FixedSplits:
    """Reports the splits that it was made with, once."""

    def __init__(self, *splits: Split) -> None:
        self._splits = splits

    async def discover(self) -> Discovery:
        splits, self._splits = self._splits, ()
        return Discovery(splits, final=True)

    def snapshot(self) -> Mapping[str, Any]:
        return {"handed_out": not self._splits}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state["handed_out"]:
            self._splits = ()
