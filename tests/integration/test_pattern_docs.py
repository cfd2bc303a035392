"""The programs of docs/patterns.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "patterns.md"


def test_the_programs_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    known: dict[str, Any] = {}
    for block in blocks:
        exec(block, known)  # noqa: S102 — the page is ours
    assert str(known["rising"]) == "from, then rise+ greedy, next fall"
