"""The table of cases and checks, whole: in the terminal, as a page, as a record."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from commands.places import LABS, PROOFS
from graders.gates import matrix
from graders.gates.matrix import Cell, Record, Row
from graders.gates.measured import measured
from graders.gates.proof import read_proof
from graders.lab import Lab
from tests.gates.small_lab import BUDGET, PASSED, READY, SmallLab, as_due, ended

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


@pytest.fixture
def found(small: SmallLab) -> Record:
    """All graded but the cheat; the reference fails."""
    due = {**as_due(small), "reference": (PASSED, ended("failed", "<none> & 'few'"))}
    graded = [small.graded(name, *results) for name, results in due.items() if name != "another_server"]
    return matrix.record(small.proof, measured(small.proof, graded), graded, harness="0.1.0", now=NOW)


def test_the_table_has_a_row_for_each_case_and_a_number_for_each_check(found: Record) -> None:
    assert matrix.text(found) == (
        "                               1  2 points\n"
        "reference                      +  F     10\n"
        "starter                        +  F     10\n"
        "fault too_many_replicas       [F] -      0\n"
        "fault probe_on_the_wrong_path  + [F]    10\n"
        "\n"
        "+ passed  F failed  - skipped  ? inconclusive  E error  [F] must  (F) may fail\n"
        "\n"
        " 1 resources_within_budget\n"
        " 2 replicas_are_ready\n"
    )


def test_it_fits_80_columns_with_all_of_the_largest_lab() -> None:
    lab = Lab.find(LABS, "03_vllm")
    cells = tuple(Cell(check.id, "failed", 0, "named", None) for check in lab.checks)
    rows = tuple(Row(case.label, 100, 240.0, False, cells, ()) for case in read_proof(lab, PROOFS).cases)
    record = Record(
        lab=lab.name,
        title=lab.title,
        harness="0.1.0",
        ended=NOW,
        checks=tuple(check.id for check in lab.checks),
        gates=(),
        rows=rows,
        left_out=(),
        hints_not_seen=(),
    )

    lines = matrix.text(record).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + len(rows) + 3 + len(lab.checks)  # no name was folded


def test_a_narrow_terminal_folds_names(found: Record) -> None:
    assert max(map(len, matrix.text(found, width=40).splitlines())) <= 40


def test_the_record_is_what_was_found(found: Record, tmp_path: Path) -> None:
    found.write(tmp_path / "verify.json")
    read = msgspec.json.decode((tmp_path / "verify.json").read_bytes(), type=Record)

    assert read == found
    assert not read.holds
    assert read.left_out == ("cheat another_server",)
    assert read.hints_not_seen == (
        f"{BUDGET}.not_yours",
        f"{READY}.ending",
        f"{READY}.starting",
    )
    assert [(row.case, row.mistakes) for row in read.rows if row.mistakes] == [
        (
            "reference",
            (
                "the reference gets 10 of 100 points, as 'replicas_are_ready' failed: <none> & 'few'; correct it, or "
                "what the check asks",
            ),
        )
    ]


class Page(HTMLParser):
    """Text and cells of a page, and whether its tags are closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.cells: list[tuple[str | None, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("meta", "br"):
            return
        self.open.append(tag)
        if tag == "td":
            self.cells.append((dict(attrs).get("class"), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "td" in self.open:
            kind, text = self.cells[-1]
            self.cells[-1] = (kind, text + data)


def test_the_page_shows_the_same_and_no_markup_of_others(found: Record) -> None:
    text = matrix.page(found)
    page = Page(text)

    assert page.open == []
    assert page.cells[:4] == [("passed", "passed"), ("failed", "failed"), (None, "10"), (None, "60")]
    assert page.cells[-3:-2] == [("failed named", "failedhint: unready")]
    assert "50_small: what proves it" in page.words
    assert "Not all gates hold; 2026-09-01 12:00 UTC, gpulab 0.1.0." in page.words
    assert "<none>" not in text
    assert "cheat another_server" in page.words
    assert "<script" not in text
    assert "http" not in text
