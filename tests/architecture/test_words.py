"""Plain words in docstrings and pages: the part of the rule that a machine can judge."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT

FOLDERS = ("streamflow", "operators", "state", "tests", "benchmarks", "reliability", "deploy", "examples")
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
ASKING = re.compile(
    r"(?:\A|[.:;]\s+|\n\s*\n)((?:What|Who|Whom|Whose|Whoever|Whatever)\b[^.]*?(?:[.?]|\Z))", re.DOTALL
)
"""A sentence that begins with a question word, up to its end."""


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a module and of everything in it, those of attributes too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for each in node.body:
                match each:
                    case ast.Expr(ast.Constant(str() as text)):
                        yield text
                    case _:
                        pass


def riddles(text: str) -> list[str]:
    """Sentences that begin with what or who and are no questions, and an old word for again."""
    asking = (found[1] for found in ASKING.finditer(text))
    return [*(each for each in asking if not each.endswith("?")), *re.findall(r"\banew\b", text)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_name_the_thing(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {each}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in docstrings(path)
        for each in riddles(text)
    }
    assert sorted(found) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_the_thing(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert riddles(prose) == []


def test_a_riddle_is_found_and_a_question_is_none() -> None:
    assert riddles("The key. What it is called: nobody knows.") == ["What it is called: nobody knows."]
    assert riddles("Who divides it?") == []
