"""Pages do not quote messages that nobody says, nor link to what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        other = page.parent / target if target else page
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_messages_of_troubleshooting_are_said() -> None:
    """Sentences between backquotes, in the first column of its tables."""
    text = (ROOT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]*? [^`]*? [^`]*)` \|", text, re.MULTILINE)
    assert len(quoted) >= 8
    folders = (ROOT / name for name in ("streamflow", "operators", "state"))
    said = re.sub(
        r'"\s*f?"', "", "\n".join(path.read_text() for each in folders for path in each.rglob("*.py"))
    )
    assert [message for message in quoted if message not in said] == []
