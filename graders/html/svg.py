"""Makes what matplotlib writes fit for a page: named for readers, in the page's colours and letters, and shorter.

Place: `draw` ends with it. Limits: it knows what matplotlib's SVG backend writes, and nothing of other SVG.
"""

import re
from xml.etree import ElementTree

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
FRAME, GRID, MUTED, SPAN, BAD = "#aa0001", "#aa0002", "#aa0003", "#aa0004", "#aa0005"
SERIES = ("#bb0001", "#bb0002", "#bb0003", "#bb0004", "#bb0005")
COLORS = {
    FRAME: "var(--frame)",
    GRID: "var(--grid)",
    MUTED: "var(--muted)",
    SPAN: "var(--span)",
    BAD: "var(--bad)",
    **{color: f"var(--line-{place})" for place, color in enumerate(SERIES)},
}
"""Stand-ins that no plot has otherwise, and what they are on a page."""

_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = frozenset({f"{SVG}metadata", f"{SVG}style"})
_LETTERS = re.compile(r"\s*font-family:[^;]*;?|\s*font-weight: normal;?")

ElementTree.register_namespace("", SVG[1:-1])


def fit(text: str, name: str, *, title: str, words: str) -> str:
    """The SVG for a page, in which it is an image of that title and description.

    Args:
        text: what matplotlib wrote.
        name: begins all ids.
        title: what it shows.
        words: how to read it.
    """
    root = ElementTree.fromstring(text)  # noqa: S314, written by matplotlib a moment ago
    _drop(root)
    used = {reference for element in root.iter() for reference in _references(element)}
    for element in root.iter():
        _rename(element, name, used)
        _restyle(element)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-words", "focusable": "false"}
    for place, (kind, said) in enumerate((("title", title), ("words", words))):
        told = ElementTree.Element(f"{SVG}{'title' if kind == 'title' else 'desc'}", {"id": f"{name}-{kind}"})
        told.text = said
        root.insert(place, told)
    return ElementTree.tostring(root, encoding="unicode").replace("\n", " ")


def _drop(element: ElementTree.Element) -> None:
    """Takes away what a page must not have, such as a style sheet for all of it, and what nobody sees."""
    for child in list(element):
        _drop(child)
        empty = child.tag in (f"{SVG}g", f"{SVG}defs") and not len(child)
        if child.tag in _DROPPED or empty or "fill: none; opacity: 0" in child.get("style", ""):
            element.remove(child)
        else:
            child.text = child.text if (child.text or "").strip() else None
            child.tail = None


def _references(element: ElementTree.Element) -> list[str]:
    link = element.get(f"{XLINK}href")
    found = [name for value in element.attrib.values() for name in _REFERENCE.findall(value)]
    return found if link is None else [*found, link.removeprefix("#")]


def _rename(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Keeps only ids that something refers to, and lets them begin with `name`."""
    own = element.attrib.pop("id", "")
    if own in used:
        element.set("id", f"{name}-{own}")
    if link := element.attrib.pop(f"{XLINK}href", ""):
        element.set("href", f"#{name}-{link.removeprefix('#')}")
    for attribute, value in element.attrib.items():
        element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _restyle(element: ElementTree.Element) -> None:
    for attribute in ("d", "x", "y", "transform"):
        if attribute in element.attrib:
            element.set(attribute, _shorter(element.attrib[attribute]))
    if element.get("transform", "").startswith("rotate(0 "):
        del element.attrib["transform"]
    if style := element.get("style"):
        for stand_in, color in COLORS.items():
            style = style.replace(stand_in, color)
        element.set("style", _LETTERS.sub("", style).strip())


def _shorter(numbers: str) -> str:
    return " ".join(_NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers).split())
