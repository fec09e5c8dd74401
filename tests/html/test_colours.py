"""Colours of plots, which axe-core leaves out: by WCAG 2.2, letters have 4.5 to 1 on what is behind them, lines 3."""

import re
from pathlib import Path

import pytest

from graders.html import page
from graders.html.plots import STYLES

CSS = Path(page.__file__).with_name("templates") / "report.css"
LETTERS = [(name, ground) for name in ("ink", "muted", "link", "bad") for ground in ("card", "span", "paper")]
LETTERS += [(status, f"{status}-wash") for status in page.SIGNS]
LINES = [(name, ground) for name in ("frame", *(f"line-{n}" for n in range(STYLES))) for ground in ("card", "span")]


def colours(*, dark: bool) -> dict[str, str]:
    """The colours by name, of which dark ones stand in for light ones."""
    light, _, rest = CSS.read_text().partition("@media screen and (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    return (
        {**found, **dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", rest.partition("\n}\n")[0]))} if dark else found
    )


def luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("pairs", "least"), [(LETTERS, 4.5), (LINES, 3.0)])
def test_everything_can_be_seen(pairs: list[tuple[str, str]], least: float, *, dark: bool) -> None:
    known = colours(dark=dark)
    found = {(one, other): round(contrast(known[one], known[other]), 2) for one, other in pairs}
    assert {pair: value for pair, value in found.items() if value < least} == {}


def test_both_schemes_have_all_colours() -> None:
    assert colours(dark=False).keys() == colours(dark=True).keys()
    assert [name for name, colour in colours(dark=False).items() if colours(dark=True)[name] == colour] == []
