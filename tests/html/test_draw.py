"""Plots as SVG: named, without what a page must not have, and the same each time."""

import re
from xml.etree import ElementTree

import pytest

from graders.html.draw import draw
from graders.html.plots import STYLES, Bound, Line, Plot

SVG = "{http://www.w3.org/2000/svg}"
PLOT = Plot(
    title="Time & <place>",
    meaning="The share of requests.",
    words=("median 3 ms",),
    x="ms",
    y="share",
    lines=tuple(
        Line(label=f"line {style}", style=style, points=((1.0, 0.0), (2.0 + style, 0.5), (400.0, 1.0)), shape="steps")
        for style in range(STYLES)
    ),
    bounds=(Bound(200.0, "objective 200 ms", "x"), Bound(0.9, "asked", "y")),
    span=(1.0, 100.0),
    log_x=True,
    top=1.04,
)
DOTS = Plot(
    title="Requests",
    meaning="Each request.",
    words=(),
    x="s",
    y="ms",
    lines=(
        Line(label="a", style=0, points=((0.0, 1.0), (1.0, 2.0)), shape="dots"),
        Line(label="b", style=1, points=((0.5, 0.0),), shape="failures"),
        Line(label="c", style=2, points=((0.0, 0.0), (1.0, 0.0)), shape="looks"),
    ),
)


def test_a_plot_is_an_image_with_a_title_and_a_description() -> None:
    root = ElementTree.fromstring(draw(PLOT, "plot-1"))
    title, words = list(root)[:2]
    assert (title.tag, title.text, words.tag, words.text) == (f"{SVG}title", PLOT.title, f"{SVG}desc", PLOT.meaning)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {words.get('id')}" == "plot-1-title plot-1-words"
    assert root.get("viewBox") == "0 0 360 212"
    assert {"width", "height"}.isdisjoint(root.attrib)


def test_letters_stay_letters_and_colours_are_those_of_the_page() -> None:
    text = draw(PLOT, "plot-1")
    said = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {"share", "ms", "objective 200 ms", "asked", "0", "0.25", "1", "10", "100"} <= set(said)
    assert re.findall(r"#[0-9a-f]{6}", text) == []
    assert set(re.findall(r"var\(--[a-z0-9-]+\)", text)) == {
        f"var(--{name})" for name in ("frame", "grid", "muted", "span", "bad", *(f"line-{n}" for n in range(STYLES)))
    }
    assert "font-family" not in text


@pytest.mark.parametrize("plot", [PLOT, DOTS])
def test_nothing_in_it_meets_something_of_another_plot(plot: Plot) -> None:
    text = draw(plot, "plot-1")
    root = ElementTree.fromstring(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(each and each.startswith("plot-1-") for each in ids)
    referred = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {one or other for one, other in referred} <= set(ids)
    assert {element.tag for element in root.iter()} <= {
        SVG + name for name in ("svg", "title", "desc", "g", "defs", "path", "use", "text", "clipPath", "rect")
    }


def test_it_is_the_same_each_time_and_small() -> None:
    assert draw(PLOT, "plot-1") == draw(PLOT, "plot-1")
    assert len(draw(PLOT, "plot-1")) < 12_000


def test_lines_differ_without_colours() -> None:
    dashes = re.findall(r"stroke-dasharray: ([0-9., ]+);", draw(PLOT, "plot-1"))
    assert len(set(dashes)) >= STYLES - 1


@pytest.mark.parametrize("words", ["$x^{", "\N{CJK UNIFIED IDEOGRAPH-4E2D}", "</text><script>", "]]>", "&amp;"])
def test_words_of_any_kind_are_words(words: str) -> None:
    plot = Plot(
        title=words, meaning=words, words=(), x=words, y=words, lines=PLOT.lines, bounds=(Bound(0.5, words, "y"),)
    )
    said = [element.text for element in ElementTree.fromstring(draw(plot, "p")).iter(f"{SVG}text")]
    assert said.count(words) == 3


def test_a_plot_of_one_point_or_of_zeros_can_be_drawn() -> None:
    for points in (((1.0, 5.0),), ((0.0, 0.0), (1.0, 0.0))):
        line = Line(label="", style=0, points=points, shape="looks")
        plot = Plot(title="t", meaning="m", words=(), x="s", y="y", lines=(line,))
        assert draw(plot, "p").startswith("<svg ")
