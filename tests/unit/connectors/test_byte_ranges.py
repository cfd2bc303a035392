"""Ranges by arithmetic: each line exactly once, wherever the cuts fall."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import SourceError
from streamflow.operators.connectors.files import byte_ranges
from streamflow.operators.connectors.files.byte_ranges import LineNumbers, mean_line, range_bytes, read_lines

CONTENT = st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 700, b"\r"]), max_size=12).flatmap(
    lambda lines: st.sampled_from([b"\n".join(lines), b"\n".join(lines) + b"\n" if lines else b""])
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranges") / "x.txt"


@given(content=CONTENT, data=st.data())
def test_any_cuts_give_each_line_exactly_once(path: Path, content: bytes, data: st.DataObject) -> None:
    path.write_bytes(content)
    size = len(content)
    inner = data.draw(st.lists(st.integers(0, size), max_size=6))
    cuts = [0, *sorted(inner), size]
    parts = [read_lines(str(path), start, end, size) for start, end in pairwise(cuts)]
    assert b"".join(body for body, _ in parts) == content
    for (body, first), end in zip(parts, cuts[1:], strict=True):
        assert content[first : first + len(body)] == body
        if body:
            assert first < end
            assert first == 0 or content[first - 1 : first] == b"\n"


@given(content=CONTENT, asked=st.lists(st.integers(0, 2000), max_size=8))
def test_line_numbers_do_not_depend_on_the_order_of_questions(
    path: Path, content: bytes, asked: list[int]
) -> None:
    path.write_bytes(content)
    numbers = LineNumbers(str(path))
    for offset in (min(offset, len(content)) for offset in asked):
        assert numbers.at(offset) == 1 + content.count(b"\n", 0, offset)


def test_a_last_line_without_newline_counts_only_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one\ntwo\nthr")
    assert read_lines(str(path), 0, 8, 8) == (b"one\ntwo\n", 0)
    assert read_lines(str(path), 8, 11, 11) == (b"thr", 8)


def test_a_file_that_was_cut_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one\n")
    with pytest.raises(SourceError, match=r"x' has become shorter while it was read: 4 bytes, 12 expected"):
        read_lines(str(path), 0, 12, 12)


def test_a_line_without_end_is_an_error_not_a_memory_hog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 100_000)
    monkeypatch.setattr(byte_ranges, "_MOST_LINE", 50_000)
    with pytest.raises(SourceError, match=r"has a line of more than 0 MiB around byte 9"):
        read_lines(str(path), 0, 10, 100_000)


def test_the_mean_line_sizes_the_ranges(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"123456789\n" * 100)
    assert mean_line(str(path), 0, path.stat().st_size) == 10
    assert range_bytes(1000, 10.0) == 10_000
    assert range_bytes(10**9, 10.0) == 8 << 20
