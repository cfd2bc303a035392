"""JSON read by the few is JSON read by the many: what the short way gives, Polars' reader gives, to the bit. Lines are
drawn from what the two parsers are known to see differently, and then damaged."""

import math

import polars as pl
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from streamflow.operators.connectors.files.formats.flat_objects import FlatObjects
from streamflow.operators.connectors.files.formats.line_format import PARSE_ERRORS

SCHEMA = {
    "i": pl.Int64(),
    "small": pl.Int32(),
    "u": pl.UInt64(),
    "v": pl.UInt32(),
    "f": pl.Float64(),
    "s": pl.String(),
    "b": pl.Boolean(),
}
FLAT = FlatObjects(SCHEMA)

integers = st.sampled_from([2**53, 2**31, 2**63, 2**64, 10**30]).flatmap(
    lambda bound: st.integers(-bound - 1, bound + 1).map(str)
)
floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
strings = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\'), max_size=8),
    st.sampled_from(
        ["\\n", "\\u00e9", "\\ud800", "\\ud83d\\ude00", "a:b", "{", "}", "\x7f", "é", "\x00", "1", "true"]
    ),
).map(lambda text: f'"{text}"')
scalars = st.one_of(
    st.sampled_from(["null", "true", "false", "0", "-0", "-0.0", "1.0"]), integers, floats, strings
)
values = st.one_of(scalars, scalars, scalars, st.sampled_from(["[]", "[1]", '{"i":1}', "{}", '[{"s":"x"}]']))
fitting = {
    "i": st.integers(-(2**63), 2**63 - 1).map(str),
    "small": st.integers(-(2**31), 2**31 - 1).map(str),
    "u": st.integers(0, 2**64 - 1).map(str),
    "v": st.integers(0, 2**32 - 1).map(str),
    "f": st.one_of(floats, st.integers(-(2**53), 2**53).map(str)),
    "s": strings,
    "b": st.sampled_from(["true", "false"]),
    "other": scalars,
}
blanks = st.sampled_from(["", "", "", " ", "\t", "\r"])


@st.composite
def members(draw: st.DrawFn, *, proper: bool) -> str:
    name = draw(st.sampled_from([*fitting]))
    value = draw(st.one_of(fitting[name], st.just("null")) if proper else values)
    before, between, after = draw(st.tuples(blanks, blanks, blanks))
    return f'{before}"{name}"{between}:{after}{value}'


@st.composite
def lines(draw: st.DrawFn, *, proper: bool) -> bytes:
    each = draw(st.lists(members(proper=proper), max_size=6))
    if proper:
        each = list({member.split(":")[0].strip(): member for member in each}.values())
    before, between, after = draw(st.tuples(blanks, blanks, blanks))
    return (before + "{" + ",".join(each) + between + "}" + after).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(bodies(proper=draw(st.booleans()))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        body[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"\xff", b"\xc3", b'"', b"{", b"}", b",", b"0", b"\n", b" ", b"\\", b"\x00", b"\x0c"]
            )
        )
    return bytes(body)


def bodies(*, proper: bool) -> st.SearchStrategy[bytes]:
    return st.tuples(
        st.lists(lines(proper=proper), min_size=1, max_size=4), st.sampled_from([b"", b"\n"])
    ).map(lambda parts: b"\n".join(parts[0]) + parts[1])


def check(body: bytes) -> bool:
    """Whether the short way was gone."""
    short = FLAT.parse(body)
    if short is not None:
        assert told(short) == told(pl.read_ndjson(body, schema=SCHEMA)), body
    return short is not None


def told(frame: pl.DataFrame) -> tuple[object, list[tuple[str, ...]]]:
    """Schema and values with the sign of zero, which == does not see."""
    return frame.schema, [tuple(map(repr, row)) for row in frame.rows()]


@given(bodies(proper=False) | damaged())
@example(b'{"i":1,"i":2}')
@example(b'{"s":"x","s" : "y"}')
@example(b'{"i":1}{"i":2}\n\n')
@example(b'{"f":123456789012345678901234}')
@example(b'{"s":"\\ud800"}')
@example(b'{"x":{"i":3},"i":1}')
@example(b"[]")
@example(b"")
def test_it_says_what_polars_says_or_nothing(body: bytes) -> None:
    event("short" if check(body) else "Polars")


@given(bodies(proper=True).filter(lambda body: b"\\" not in body))
def test_ordinary_objects_go_the_short_way_where_polars_reads_them(body: bytes) -> None:
    if check(body):
        return
    # What is left are numbers beyond all floats, and integers that a float rounds.
    try:
        frame = pl.read_ndjson(body, schema=SCHEMA)
    except PARSE_ERRORS:
        return
    assert any(value is not None and abs(value) >= 2**53 and math.isfinite(value) for value in frame["f"])


@pytest.mark.parametrize(
    "body", [b'{"i":1.0}', b'{"i":"1"}', b'{"small":2147483648}', b'{"u":-1}', b'{"b":1}', b'{"s":1}']
)
def test_a_value_of_another_kind_is_for_polars(body: bytes) -> None:
    assert FLAT.parse(b'{"i":7}\n' + body) is None


def test_nested_columns_or_none_and_much_input_are_for_polars() -> None:
    line = b'{"i":1}'
    assert FlatObjects({}).parse(line) is None
    assert FlatObjects({"i": pl.List(pl.Int64)}).parse(line) is None
    assert FLAT.parse(b"\n".join([line] * 500)) is not None
    assert FLAT.parse(b"\n".join([line] * 501)) is None
    assert FLAT.parse(b'{"s":"%s"}' % (b"x" * 60_000)) is not None
    assert FLAT.parse(b'{"s":"%s"}' % (b"x" * 70_000)) is None
