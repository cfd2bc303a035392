"""A join of changing tables that a batch job began, and a stream goes on with: each row comes out once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import StateError
from streamflow.operators.joins.changing import ChangingJoin
from streamflow.testing import OperatorHarness
from streamflow.testing.results import final_rows

LEFT = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=False)
RIGHT = StreamType(Schema({"k": pl.String, "w": pl.Int64}), timed=False)
SPEC = ChangingJoin(left_keys=("k",), right_keys=("k",), how="left")
KEYS = [f"k{number}" for number in range(20)]


def harness(updates: Any, *, parallelism: int = 1) -> OperatorHarness:
    return OperatorHarness(SPEC, LEFT, RIGHT, updates=updates, parallelism=parallelism)


def begun() -> OperatorHarness:
    """A batch job that has rows of every key on the left, and of every second one on the right."""
    batch = harness("end").push([{"k": key, "v": number} for number, key in enumerate(KEYS)])
    return batch.push([{"k": key, "w": 1} for key in KEYS[::2]], port=1)


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_a_checkpoint_between_the_first_rows_of_some_keys_and_of_others_forgets_none(
    parallelism: int,
) -> None:
    stream = harness("batch", parallelism=parallelism).restore(begun().snapshot())
    # Only one subtask has anything to do before the barrier.
    stream.push([{"k": KEYS[1], "w": 2}], port=1).epoch()
    stream.restore(stream.snapshot(), parallelism=1).finish()
    expected = [(key, number, None if number % 2 else 1) for number, key in enumerate(KEYS)]
    expected[1] = (KEYS[1], 1, 2)
    rows = final_rows(stream.output(), changing=True)
    assert Counter((row["k"], row["v"], row["w"]) for row in rows) == Counter(expected)


def test_a_stream_does_not_become_a_batch_job() -> None:
    stream = harness("batch").restore(begun().snapshot()).epoch()
    with pytest.raises(StateError, match="cannot be put out as inserts at the end"):
        harness("end").restore(stream.snapshot())
