"""Damaged checkpoints as something that is read from outside: a small share of `reliability fuzz-checkpoints`."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from reliability import checkpoint_fuzz as fuzz


@pytest.fixture(scope="module")
def fuzzing(tmp_path_factory: pytest.TempPathFactory) -> fuzz.CheckpointFuzzing:
    return fuzz.CheckpointFuzzing(random.Random(20261128), tmp_path_factory.mktemp("fuzz"))


@pytest.mark.blocks_the_loop
@pytest.mark.parametrize(
    ("part", "count"),
    [(fuzz.decoders, 2_000), (fuzz.restores, 80), (fuzz.runs, 20), (fuzz.databases, 60), (fuzz.commands, 4)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_is_refused_or_changes_nothing(
    fuzzing: fuzz.CheckpointFuzzing, part: Callable[[fuzz.CheckpointFuzzing, int], None], count: int
) -> None:
    before = fuzzing.inputs
    part(fuzzing, count)
    assert fuzzing.wrong == []
    assert fuzzing.inputs >= before + count
    assert fuzzing.outcomes["refused"] > 0


@pytest.mark.blocks_the_loop
def test_what_is_not_damaged_gives_the_right_result(fuzzing: fuzz.CheckpointFuzzing) -> None:
    for case in fuzzing.cases:
        assert fuzz.to_the_end(case, case.stored, tampered=False) == "right"
