"""Hostile files against Python's own readers: a small share of `python -m reliability fuzz-files`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliability import file_fuzz
from reliability.fuzzing import Fuzzing


@pytest.mark.blocks_the_loop
@pytest.mark.parametrize("kind", file_fuzz.KINDS[1:], ids=lambda kind: kind.__name__)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_each_record_is_read_as_python_reads_it_or_is_bad(
    tmp_path_factory: pytest.TempPathFactory, kind: file_fuzz.Kind, seed: int
) -> None:
    fuzzing = Fuzzing(random.Random(seed), tmp_path_factory.mktemp("fuzz"))
    kind(fuzzing)
    assert fuzzing.wrong == []
    assert sum(fuzzing.outcomes.values()) > 0


@pytest.mark.blocks_the_loop
def test_what_decompresses_to_much_is_refused(tmp_path: Path) -> None:
    fuzzing = Fuzzing(random.Random(1), tmp_path)
    file_fuzz.bomb(fuzzing, "bomb.ndjson.gz")
    assert fuzzing.wrong == []
    assert fuzzing.outcomes == {"refused": 1}
