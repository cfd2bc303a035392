"""Numbers as people read them in a line of a terminal (counts, rates, spans of time), and tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamflow.time.timestamps import format_time

__all__ = ["count", "moment", "rate", "restarts", "size", "span", "text_table"]

_SPANS: Final = ((365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def count(number: int) -> str:
    """
    >>> count(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def rate(per_second: float) -> str:
    """Records per second with three digits.

    >>> rate(0), rate(12.34), rate(45_678), rate(2_300_000)
    ('0/s', '12.3/s', '45.7 k/s', '2.30 M/s')
    """
    for factor, unit in ((1e6, " M"), (1e3, " k"), (1.0, "")):
        if per_second >= factor:
            scaled = per_second / factor
            digits = 2 if scaled < 10 and unit else 1 if scaled < 100 else 0
            return f"{scaled:.{digits}f}{unit}/s"
    return "0/s" if per_second == 0 else f"{per_second:.2f}/s"


def size(number: float) -> str:
    """Bytes in binary units with three digits.

    >>> size(0), size(1_000), size(1_536), size(123 * 2**20)
    ('0 B', '1000 B', '1.50 KiB', '123 MiB')
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if number >= 1 << 10 * power:
            scaled = number / (1 << 10 * power)
            digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
            return f"{scaled:.{digits}f} {unit}"
    return f"{number:.0f} B"


def restarts(number: int) -> str:
    """
    >>> restarts(1), restarts(2)
    ('1 restart', '2 restarts')
    """
    return f"{number:,} restart{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> span(0.25), span(75), span(3 * 86_400 + 7_200), span(-5)
    ('0.2 s', '1 min 15 s', '3 d 2 h', '-5.0 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for at, (size, unit) in enumerate(_SPANS):
        if whole >= size:
            first, rest = divmod(whole, size)
            small, small_unit = _SPANS[at + 1] if at + 1 < len(_SPANS) else (1, "")
            second = rest // small if small_unit else 0
            return f"{first} {unit} {second} {small_unit}" if second else f"{first} {unit}"
    return f"{whole} s"


def moment(micros: int | None, *, ended: bool = False) -> str:
    """Event time to the second, without the T and Z; a dash for none, "end" if all input has `ended`.

    >>> moment(1_357_017_420_500_000), moment(None), moment(None, ended=True)
    ('2013-01-01 05:17:00', '–', 'end')
    """
    if micros is None:
        return "end" if ended else "–"
    return format_time(micros).removesuffix("Z").partition(".")[0].replace("T", " ")


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
