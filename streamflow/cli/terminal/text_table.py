"""A table as plain text, for terminals and pipes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["text_table"]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Columns as wide as their widest value, two blanks between them; those named in `right` are set right.

    >>> print(text_table(["number", "size"], [["1", "12 KiB"], ["10", "9 B"]], right=["number", "size"]))
    number    size
         1  12 KiB
        10     9 B
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
