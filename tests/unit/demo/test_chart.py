"""The SVG chart: well-formed, to scale, with its texts escaped and its marks apart from one another."""

from __future__ import annotations

from datetime import date, timedelta
from xml.etree import ElementTree

import pytest

from streamflow.demo.chart import Mark, line_chart

DAY = date(2013, 1, 1)
SVG = "{http://www.w3.org/2000/svg}"


def _chart(*values: float, marks: list[Mark] | None = None) -> ElementTree.Element:
    points = [(DAY + timedelta(days=n), value) for n, value in enumerate(values)]
    text = line_chart(
        {"EWR": points},
        title="Delays <all>",
        subtitle="by day",
        unit="minutes",
        marks=marks or [],
    )
    return ElementTree.fromstring(text)


def test_points_are_to_scale() -> None:
    dots = _chart(0.0, 10.0, 20.0).findall(f"{SVG}circle")
    xs, ys = ([float(dot.attrib[name]) for dot in dots] for name in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[0] > ys[2]


def test_there_are_axes_a_legend_and_a_tooltip() -> None:
    chart = _chart(-4.0, 35.0)
    texts = [text.text for text in chart.iter(f"{SVG}text")]
    assert {"Delays <all>", "by day", "minutes", "EWR", "−10", "0", "40", "Tue 1 Jan"} <= set(texts)
    assert [title.text for title in chart.iter(f"{SVG}title")] == [
        "EWR, Tue 1 Jan: -4.0",
        "EWR, Wed 2 Jan: 35.0",
    ]


def test_neighbouring_marks_are_on_two_rows_and_inside() -> None:
    marks = [Mark(DAY + timedelta(days=n), f"day {n}: 99 min") for n in (29, 30)]
    chart = _chart(*[5.0] * 31, marks=marks)
    places = [
        (float(t.attrib["x"]), float(t.attrib["y"]))
        for t in chart.iter(f"{SVG}text")
        if t.attrib["class"] == "marked"
    ]
    assert len({y for _, y in places}) == 2
    assert all(x < 900 for x, _ in places)
    assert len([r for r in chart.iter(f"{SVG}rect") if r.attrib["class"] == "mark"]) == 2


def test_dark_readers_get_dark_paper() -> None:
    style = _chart(1.0).find(f"{SVG}style")
    assert style is not None
    light, _, dark = str(style.text).partition("@media (prefers-color-scheme:dark)")
    assert ".paper{fill:#ffffff}" in light
    assert ".paper{fill:#0f141b}" in dark


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 days"):
        line_chart({}, title="", subtitle="", unit="")
