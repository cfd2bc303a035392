"""A graph as SVG: boxes in columns, each to the right of its inputs, and lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

__all__ = ["drawing"]

_WIDTH, _LINE, _GAP_X, _GAP_Y, _EDGE = 240, 18, 50, 16, 10
_CUT: Final = 36
"""The longest line of a box, in characters."""


def drawing(title: str, boxes: Mapping[str, Sequence[str]], edges: Sequence[tuple[str, str]]) -> str:
    """An SVG of boxes (id to lines of text, inputs first) and edges between ids.

    >>> drawing("job", {"a": ["read"], "b": ["write"]}, [("a", "b")]).count("<rect")
    2
    """
    depth: dict[str, int] = {}
    for id in boxes:
        depth[id] = 1 + max((depth[upper] for upper, lower in edges if lower == id), default=-1)
    corners: dict[str, tuple[int, int, int]] = {}
    filled: dict[int, int] = {}
    for id, lines in boxes.items():
        height = _LINE * len(lines) + 2 * _EDGE
        top = filled.get(depth[id], _EDGE)
        filled[depth[id]] = top + height + _GAP_Y
        corners[id] = (_EDGE + depth[id] * (_WIDTH + _GAP_X), top, height)
    width = (max(depth.values(), default=0) + 1) * (_WIDTH + _GAP_X)
    size = f'width="{width}" height="{max(filled.values(), default=0)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
    ]
    parts += [_edge(corners[upper], corners[lower]) for upper, lower in edges]
    parts += [_box(corners[id], lines) for id, lines in boxes.items()]
    return "".join([*parts, "</svg>"])


def _edge(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> str:
    x, y = upper[0] + _WIDTH, upper[1] + upper[2] // 2
    to_x, to_y = lower[0], lower[1] + lower[2] // 2
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}" fill="none" stroke="gray"/>'


def _box(corner: tuple[int, int, int], lines: Sequence[str]) -> str:
    left, top, height = corner
    texts: list[str] = []
    for number, line in enumerate(lines):
        weight = "bold" if number == 0 else "normal"
        y = top + _EDGE + _LINE * (number + 1) - 5
        shown = line if len(line) <= _CUT else f"{line[:_CUT]}…"
        texts.append(f'<text x="{left + _EDGE}" y="{y}" font-weight="{weight}">{escape(shown)}</text>')
    rect = (
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{height}" rx="4" fill="white" stroke="black"/>'
    )
    return rect + "".join(texts)
