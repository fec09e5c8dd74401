"""The page without a browser: what it holds, in which structure, and that all text in it is text."""

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graders.html import evidence, page
from graders.html.page import WrongReport
from graders.lateness import Lateness
from graders.rubric import Left
from tests.graders.verdicts import NOON, result
from tests.html.conftest import HOSTILE, OBJECTIVE, STREAMS, store_whole
from tests.html.runs import store

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Outline(HTMLParser):
    """Tags with their attributes, text by the innermost tag, and whether each tag is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.said.append((self._open[-1], " ".join(data.split())))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.said if name == tag]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the run with a check of every status."""
    return page.render(evidence.read(store_whole(tmp_path_factory.mktemp("results") / "run")))


def test_headings_go_down_one_by_one(text: str) -> None:
    levels = [int(tag[1]) for tag, _ in Outline(text).tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_it_says_what_was_expected_and_observed(text: str) -> None:
    found = Outline(text)
    assert found.texts("h1") == ["Serve a model"]
    assert found.texts("h2") == [
        "What to look at next",
        "Checks",
        "What was measured",
        "GPUs",
        "What happened when",
        "How it was graded",
    ]
    assert found.texts("h3") == [
        "Objective",
        "Prefixes",
        "Loss",
        "What was kept of it",
        "To look at it while it runs",
        "Throughput",
        "Objective",
        "gpu-1, GPU 0",
        "gpu-2, GPU 0",
    ]
    assert "4 times (n = 2; 95% interval 3.5 to 4.5 times)" in found.texts("p")
    assert "Look at the queue. Let more sequences run." in found.texts("dd")
    assert "Not measured because of it: Highest load." in found.texts("p")
    assert "pytest labs/03_vllm -k test_objective" in found.texts("code")
    assert "of the lab's infrastructure, not yours" in found.texts("dd")
    assert "GPUs" in found.texts("dd")
    assert "cpu, 2 cores, 0.0 GiB of memory" in found.texts("dd")
    assert "median 58 ms (46 to 72), p90 failed (82 ms to failed)" in found.texts("span")
    assert "Objective 50 ms" in found.texts("span")
    assert "a pod is deleted" in found.texts("span")
    assert [word for word in found.texts("span") if word in ("simulated", "real")] == ["simulated", "real"]
    assert {"On average 87 %, at most 87 %", "Held by lab/submission-0", "No pod held it"} <= set(found.texts("span"))


def test_a_percentile_is_told_with_its_interval_or_with_how_many_requests_it_takes(text: str) -> None:
    cells = Outline(text).texts("td")
    begin = cells.index("1,500 ms")
    assert cells[begin : begin + 4] == ["1,500 ms", "(1,500 to 1,500)", "n too small", "(8 of 29)"]
    begin = cells.index("58 ms")
    assert cells[begin : begin + 4] == ["58 ms", "(46 to 72)", "failed", "(82 ms to failed)"]


def test_tables_and_figures_have_names(text: str) -> None:
    found = Outline(text)
    assert [table.get("aria-labelledby") for table in found.all("table")][:1] == ["checks"]
    assert len(found.all("tr")) == 1 + 6 + (1 + 4) + (1 + 1)
    assert [attributes["scope"] for attributes in found.all("th")].count("row") == 6 + 4 + 1
    assert len(found.all("figure")) == len(found.all("figcaption")) == 3 + 3 + 2 + (1 + 3)
    assert [svg.get("role") for svg in found.all("svg") if svg.get("aria-hidden") is None] == ["img"] * 12
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {link["href"] for link in found.all("a")}
    assert wanted <= {f"#{each}" for each in ids}


def test_there_is_no_script_and_nothing_to_load(text: str) -> None:
    found = Outline(text)
    assert {tag for tag, _ in found.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "img",
        "form",
        "base",
    } == set()
    assert [name for _, attributes in found.tags for name in attributes if name.startswith("on")] == []
    addresses = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("href", "src")]
    assert all(value is not None and value.startswith("#") for value in addresses)
    assert "url(http" not in text
    assert "@import" not in text


def test_words_from_servers_are_words(text: str) -> None:
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;]]&gt;&lt;img" in text
    assert "{{ 7*7 }}" in text
    assert not any(letter in text for letter in "\x00\x1b")
    assert "w" * page.MOST_LETTERS not in text
    assert f"({len(HOSTILE) - page.MOST_LETTERS:,} more letters are in the run&#39;s files)" in text


@pytest.mark.parametrize("words", ["<b>x</b>", "]]>", '" onload="alert(1)', "a\x1b[2Jb", "&lt;"])
def test_words_of_any_kind_in_any_place_are_words(tmp_path: Path, words: str) -> None:
    texts = dict.fromkeys(("title", "expected", "observed", "hint", "why", "unit"), words)
    check = msgspec.structs.replace(OBJECTIVE, **texts, n=1, interval=(1.0, 2.0))
    traits = {"backend": words, "gpus": words, "users": words, "not_enforced": [words]}
    store(
        tmp_path / "run",
        [check],
        {},
        events=[(1.0, words)],
        title=words,
        reason=words,
        simulated=(words,),
        traits=traits,
    )
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    plain = words.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert found.texts("h1") == [plain]
    assert {"b", "script"} & {tag for tag, _ in found.tags} <= {"b"}
    assert [attributes for _, attributes in found.tags if "onload" in attributes] == []
    assert len(found.all("b")) == 1  # the page's own
    assert plain in found.texts("dd")


def test_a_run_without_evidence_is_told_all_the_same(tmp_path: Path) -> None:
    store(tmp_path / "run", [STREAMS], level=None, simulated=None, traits=None, submission=None, ended=None)
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    assert found.texts("h2") == ["Checks", "What happened when", "How it was graded"]
    assert "no cluster was seen, so what is simulated is not known" in found.texts("dd")
    assert "refused, so it has no digest" in found.texts("dd")


def test_whose_run_it_is_and_what_lateness_takes_is_said(tmp_path: Path) -> None:
    late = Lateness(due=NOON, days=2, percent=20.0)
    store(tmp_path / "run", [STREAMS], student="ada", attempt=3, late=late, final_points=8.0, hint_tiers=2)
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    assert "student ada, attempt 3" in found.texts("dd")
    assert "10/10 passed; 2 days late takes 20% and leaves 8" in found.texts("p")
    assert "up to 2 tiers of each" in found.texts("dd")


def test_that_nothing_is_earned_without_an_essential_check_is_said(tmp_path: Path) -> None:
    missing = result("same", "failed", 90, title="The same mathematics", essential=True)
    store(tmp_path / "run", [msgspec.structs.replace(STREAMS, points=0), missing])
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    assert "0/100 failed; nothing is earned without 'The same mathematics'" in found.texts("p")


def test_what_is_not_shown_is_said(tmp_path: Path) -> None:
    store(tmp_path / "run", [STREAMS], {"a.jsonl": b'{"format":"gpulab/load/v0"}\n'})
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    assert "Not shown: 1 files" in found.texts("summary")
    (said,) = [text for text in found.texts("li") if text.startswith("evidence/a.jsonl: ")]
    assert said.startswith("evidence/a.jsonl: these lines are no load run that can be read: ")


def test_a_page_holds_so_many_plots_and_says_what_it_does_not_draw(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page.render(evidence.read(stored))
    monkeypatch.setattr(page, "MOST_BYTES", 20_000)
    text = page.render(evidence.read(stored))
    said = Outline(text).texts("span").count("Not drawn, as the page has as many plots as it may hold.")
    drawn = len([svg for svg in Outline(text).all("svg") if svg.get("role") == "img"])
    assert said > 0
    assert said + drawn == 12
    assert len(text) < len(whole) < 150_000


def test_it_is_the_same_each_time(stored: Path) -> None:
    assert page.render(evidence.read(stored)) == page.render(evidence.read(stored))


def test_it_is_written_beside_the_run_which_stays_as_it_was(stored: Path, tmp_path: Path) -> None:
    assert page.write(stored) == stored.parent / "20260901T120000Z-abcdef.html"
    assert page.write(stored, tmp_path / "new/report.html") == tmp_path / "new/report.html"
    assert (stored.parent / "20260901T120000Z-abcdef.html").read_text() == (tmp_path / "new/report.html").read_text()
    assert evidence.read(stored).holds.startswith("It holds: ")


def test_it_is_never_written_into_a_run(stored: Path) -> None:
    with pytest.raises(WrongReport) as caught:
        page.write(stored, stored / "evidence/report.html")
    assert str(caught.value) == (
        f"asked to write the report to {stored / 'evidence/report.html'}, inside the run's folder, whose manifest "
        "tells every file there; name a file elsewhere"
    )


def test_a_file_that_cannot_be_written_is_said(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WrongReport) as caught:
        page.write(stored, tmp_path / "folder")
    assert str(caught.value) == (
        f"the report {tmp_path / 'folder'} cannot be written (Is a directory); name another file"
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.2 s"), (12.5, "12.5 s"), (60.0, "1 min 00 s"), (276.0, "4 min 36 s"), (None, "–")]
)
def test_durations_in_words(tmp_path: Path, seconds: float | None, words: str) -> None:
    check = result("a", "passed", 1, seconds=seconds)
    store(tmp_path / "run", [check])
    assert words in Outline(page.render(evidence.read(tmp_path / "run"))).texts("td")


def test_what_was_left_on_the_cluster_is_named_with_how_to_remove_it(tmp_path: Path) -> None:
    left = Left("lab-x2k4p", "gpulab kubectl --namespace lab-x2k4p", "gpulab kubectl delete namespace lab-x2k4p")
    store(tmp_path / "run", [result("a", "failed", 1, observed="1")], left=left)
    found = Outline(page.render(evidence.read(tmp_path / "run")))
    assert "To look at it where it was left" in found.texts("h3")
    assert [command for command in found.texts("code") if "lab-x2k4p" in command] == [
        "gpulab kubectl --namespace lab-x2k4p get pods -o wide",
        "gpulab kubectl --namespace lab-x2k4p events --types=Warning",
        "gpulab kubectl delete namespace lab-x2k4p",
    ]
    assert "the namespace lab-x2k4p" in found.texts("dd")
