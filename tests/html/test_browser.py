"""The page in a real browser: what axe-core finds, whether it fits, what it loads, the keyboard, and paper.

Place: runs where Chromium is installed (Debian: `apt-get install chromium`), and is skipped elsewhere. Limits: one
browser; Firefox and Safari were not tried.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from graders.html import page as pages
from tests.html.conftest import store_whole

pytestmark = pytest.mark.slow

PHONE, DESK = 360, 1280
Scheme = Literal["light", "dark"]
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true })"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
STOPS = "document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length"
FOCUSED = "document.activeElement.outerHTML.slice(0, 60)"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is on PATH; on Debian `apt-get install chromium` brings it")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which Chromium refuses to root
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run with a check of every status."""
    return pages.write(store_whole(tmp_path_factory.mktemp("results") / "run"))


def opened(browser: Browser, file: Path, *, width: int, scheme: Scheme = "light") -> Page:
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize(("scheme", "width"), [("light", DESK), ("dark", PHONE)])
def test_axe_finds_nothing(browser: Browser, file: Path, scheme: Scheme, width: int) -> None:
    page = opened(browser, file, width=width, scheme=scheme)
    page.evaluate(OPEN)
    found = Axe().run(page)
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found.response["violations"]] == []
    page.context.close()


def test_axe_finds_what_is_planted(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><h1 style='color: #eee'>Words of little contrast</h1><svg role=img></svg></main>")
    found = {each["id"] for each in Axe().run(page).response["violations"]}
    assert {"color-contrast", "svg-img-alt"} <= found
    page.close()


@pytest.mark.parametrize("width", [PHONE, 700, DESK])
def test_it_fits_every_width(browser: Browser, file: Path, width: int) -> None:
    page = opened(browser, file, width=width)
    page.evaluate(OPEN)
    assert page.evaluate(WIDTHS) == [width, width]
    page.context.close()


def test_it_loads_nothing_and_complains_of_nothing(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(file.as_uri(), wait_until="networkidle")
    assert (asked, said) == ([file.as_uri()], [])
    page.close()


def test_the_keyboard_reaches_everything(browser: Browser, file: Path) -> None:
    page = opened(browser, file, width=DESK)
    seen = []
    for _ in range(page.evaluate(STOPS)):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
    assert seen[0].startswith('<a class="skip" href="#checks">')
    # Of what is folded away only the way to unfold it is reached.
    assert len([each for each in seen if each.startswith("<summary>")]) == 4
    assert len([each for each in seen if each.startswith("<a ")]) >= 8
    page.focus("summary")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open") is True
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_white(browser: Browser, file: Path, scheme: Scheme) -> None:
    page = opened(browser, file, width=DESK, scheme=scheme)
    page.emulate_media(media="print")
    assert page.evaluate(PAPER) == "rgb(255, 255, 255)"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.context.close()
