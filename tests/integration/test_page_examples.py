"""The examples in pages of `docs/` that are written as at Python's prompt: they give what stands below them."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

PAGES = sorted(
    page for page in (Path(__file__).parents[2] / "docs").glob("*.md") if "\n>>> " in page.read_text()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page: Path) -> None:
    outcome = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted
    assert not outcome.failed
