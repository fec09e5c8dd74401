"""Judges as a lab declares them, found by its folder, and what a check says where facts and judges do not fit."""

import importlib
import sys
from pathlib import Path

import msgspec
import pytest

from graders.errors import HarnessError
from graders.judging import Asked, Facts, Judge, load
from graders.lab import Lab
from graders.rubric import Finding
from tests.graders.judged_lab import JUDGES, change, measured
from tests.graders.tiny_lab import LAB, Session

pytest_plugins = ["pytester"]


class Share(Facts, frozen=True, kw_only=True):
    """Facts of a judge that is made here."""

    hits: int


def judge_share(facts: Share, threshold: object) -> Finding:
    return Finding(expected="some", observed=str(facts.hits), verdict="passed" if facts.hits else "failed")


SHARE = Judge("x/share/v1", Share, judge_share)


def lab_in(folder: Path) -> Lab:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.toml").write_text(LAB)
    return Lab.load(folder)


def declare(lab: Lab, text: str, package: str = "tiny_lab") -> Path:
    path = lab.folder / package / "judges.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_judge_reads_facts_as_the_record_has_them_and_names_their_evidence() -> None:
    facts = msgspec.json.encode(Share(hits=3, evidence=("evidence/a",)))

    assert SHARE.judge(facts, lambda name: 0.0) == Finding(
        expected="some", observed="3", verdict="passed", evidence=("evidence/a",)
    )


def test_facts_that_are_others_are_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        SHARE.judge(b'{"hits": null}', lambda name: 0.0)
    assert str(caught.value) == (
        "these facts cannot be read as x/share/v1: Expected `int`, got `null` - at `$.hits`; correct the lab"
    )


def test_a_judge_that_fails_is_named() -> None:
    def judge(facts: Share, threshold: object) -> Finding:
        return judge_share(facts, 1 / facts.hits)

    with pytest.raises(HarnessError) as caught:
        Judge("x/share/v1", Share, judge).judge(b'{"hits": 0}', lambda name: 0.0)
    assert str(caught.value) == ("the judge of x/share/v1 failed: ZeroDivisionError: division by zero; correct the lab")


def test_thresholds_remember_what_was_asked_for() -> None:
    asked = Asked({"a": 1.0, "b": 2.0, "c": 3.0}.__getitem__)

    assert (asked("b"), asked("a"), asked("b")) == (2.0, 1.0, 2.0)
    assert asked.numbers == {"b": 2.0, "a": 1.0}


def test_a_lab_without_a_package_has_no_judges(tmp_path: Path) -> None:
    assert load(lab_in(tmp_path / "01_tiny")) == {}


def test_versions_of_a_lab_have_judges_of_their_own_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (lab_in(tmp_path / name / "01_tiny") for name in ("old", "new"))
    for lab, version in ((old, "v1"), (new, "v2")):
        declare(lab, f"from tiny_lab import shape\n{JUDGES.replace('ratio/v1', version)}")
        (lab.folder / "tiny_lab/shape.py").write_text("SHAPE = 1\n")
        (lab.folder / "tiny_lab/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(old.folder))
    imported = importlib.import_module("tiny_lab.judges")
    try:
        assert load(old) is imported.JUDGES
        assert load(new)["first"].format == "01_tiny/v2"
        assert load(old) is imported.JUDGES is sys.modules["tiny_lab.judges"].JUDGES
        assert str(new.folder) not in sys.path
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "tiny_lab"]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_such\n", "ModuleNotFoundError: No module named 'nothing_such'"),
        ("", "AttributeError: module 'broken_lab.judges' has no attribute 'JUDGES'"),
    ],
)
def test_judges_that_cannot_be_loaded_say_why(tmp_path: Path, text: str, said: str) -> None:
    lab = lab_in(tmp_path / "01_tiny")
    path = declare(lab, text, "broken_lab")
    with pytest.raises(HarnessError) as caught:
        load(lab)
    assert str(caught.value) == f"{path} declares no judges: {said}; correct the lab"


def test_judges_are_of_checks_that_are_there_and_in_one_package(tmp_path: Path) -> None:
    lab = lab_in(tmp_path / "01_tiny")
    path = declare(lab, 'JUDGES = {"third": None}\n', "stray_lab")
    with pytest.raises(HarnessError) as caught:
        load(lab)
    assert str(caught.value) == (f"{path} declares a judge of 'third', which is no check of lab.toml; correct either")
    declare(lab, JUDGES, "other_lab")
    with pytest.raises(HarnessError) as caught:
        load(lab)
    assert str(caught.value) == (
        f"{lab.folder} declares judges in other_lab/judges.py, stray_lab/judges.py; keep one package of the lab's own"
    )


def test_facts_that_do_not_fit_their_judge_are_the_labs_mistake(session: Session) -> None:
    measured(session, "'three'")

    first = session.check("first")
    assert (first.status, first.error_class, first.observed) == (
        "error",
        "harness",
        "these facts cannot be read as 01_tiny/ratio/v1: Expected `float`, got `str` - at `$.ratio`; correct the lab",
    )


def test_facts_without_a_judge_and_a_judge_without_facts_are_the_labs_mistake(session: Session) -> None:
    measured(session, "3.0", judges=JUDGES.replace('"first": Judge', '"second": Judge'))

    assert [check.observed for check in session.verdict.checks] == [
        f"the check 'first' measured facts, and {session.lab} declares no judge of it; add it to JUDGES in "
        "<topic>_lab/judges.py",
        "not measured, as 'The first' did not pass",
    ]


def test_a_finding_where_facts_belong_is_the_labs_mistake(session: Session) -> None:
    change(session)
    session.run("def test_first(check):\n    check.measure(lambda _: GOOD)\ndef test_second(check):\n    pass\n")

    assert session.check("first").observed == (
        "the check 'first' has a judge, and measured a finding of its own; return facts, or take its judge away"
    )
