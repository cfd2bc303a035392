"""HTML tables for notebooks, from rows of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["html_table"]


def html_table(caption: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a caption; every text escaped.

    >>> html_table("a<b", ["n"], [[1]])
    '<table><caption>a&lt;b</caption><tr><th>n</th></tr><tr><td>1</td></tr></table>'
    """
    from html import escape  # imported here because its table of entities is slow to import

    lines = ["".join(f"<th>{escape(name)}</th>" for name in heading)]
    lines += ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"
