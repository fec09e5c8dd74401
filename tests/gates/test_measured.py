"""The measured gate: what each case must come to, and each way in which it does not, in whole sentences."""

from typing import Any

import msgspec
import pytest

from graders.gates.measured import Graded, measured, mistakes, seen_hints
from graders.rubric import CheckResult
from tests.gates.small_lab import BUDGET, PASSED, READY, SKIPPED, SmallLab, as_due, ended


def test_what_comes_to_what_it_must_holds(small: SmallLab) -> None:
    graded = [small.graded(name, *results) for name, results in as_due(small).items()]

    assert [(gate.name, gate.seen, gate.mistakes) for gate in measured(small.proof, graded)] == [
        ("reference", "1 graded, full marks each time", ()),
        ("starter", "1 graded, nothing but what it is handed out with", ()),
        ("faults", "2 graded, each named by its check with its hint, and by no unrelated one", ()),
        ("cheats", "1 graded, each refused in the words for it, and worth nothing where it attacks", ()),
    ]
    assert seen_hints(small.lab, graded) == {
        (BUDGET, "too_much"),
        (BUDGET, "not_yours"),
        (READY, "few"),
        (READY, "unready"),
    }


def test_what_was_not_graded_is_not_proven(small: SmallLab) -> None:
    assert [gate.mistakes for gate in measured(small.proof, [])] == [
        (f"no {kind} of 50_small was graded, so nothing is proven of it",)
        for kind in ("reference", "starter", "fault", "cheat")
    ]
    assert measured(small.proof, [], whole=False) == []


WRONG: list[tuple[str, CheckResult, CheckResult, list[str]]] = [
    (
        "reference",
        PASSED,
        ended("failed", "1 of them are ready"),
        [
            "the reference gets 10 of 100 points, as 'replicas_are_ready' failed: 1 of them are ready; correct it, or "
            "what the check asks"
        ],
    ),
    (
        "reference",
        ended("inconclusive", "too few"),
        PASSED,
        [
            "the reference gets 90 of 100 points, as 'resources_within_budget' was inconclusive: too few; grade it "
            "again",
        ],
    ),
    (
        "reference",
        PASSED,
        ended("error", "no node"),
        [
            "the reference could not be graded at 'replicas_are_ready': no node; look at its log, and grade it again",
        ],
    ),
    (
        "starter",
        PASSED,
        PASSED,
        [
            "the starter gets the 90 points of 'replicas_are_ready' as it is handed out; ask for more there, or set "
            "starter_passes in lab.toml"
        ],
    ),
    (
        "starter",
        ended("failed", "9 replicas", "More"),
        SKIPPED,
        [
            "lab.toml says that the starter passes 'resources_within_budget', which failed: 9 replicas; correct one of "
            "them"
        ],
    ),
    (
        "starter",
        PASSED,
        ended("inconclusive", "busy"),
        ["the starter must earn nothing at 'replicas_are_ready', which was inconclusive: busy; grade it again"],
    ),
    (
        "starter",
        PASSED,
        ended("failed", "1 of them are ready"),
        ["the starter fails 'replicas_are_ready' and is not told why; let the check say expected, observed and a hint"],
    ),
    (
        "too_many_replicas",
        PASSED,
        PASSED,
        [
            "the fault too_many_replicas must fail 'resources_within_budget', which passed; correct fault, table or "
            "check"
        ],
    ),
    (
        "too_many_replicas",
        PASSED,
        ended("failed", "none\nof them"),
        [
            "the fault too_many_replicas must fail 'resources_within_budget', which passed; correct fault, table or "
            "check",
            "the fault too_many_replicas must fail 'resources_within_budget' alone, and 'replicas_are_ready' failed: "
            "none of them; if the cause is the same, add 'replicas_are_ready' to `also` in its table, else correct "
            "that check",
        ],
    ),
    (
        "probe_on_the_wrong_path",
        PASSED,
        ended("failed", "x" * 200),
        [
            "the fault probe_on_the_wrong_path must show the hint 'unready' at 'replicas_are_ready', and shows none; "
            "correct its table, or when the check gives which"
        ],
    ),
    (
        "probe_on_the_wrong_path",
        PASSED,
        ended("failed", "x", "It serves. What happens when its machine is lost?"),
        [
            "the fault probe_on_the_wrong_path must show the hint 'unready' at 'replicas_are_ready', and shows 'few'; "
            "correct its table, or when the check gives which"
        ],
    ),
    (
        "probe_on_the_wrong_path",
        ended("inconclusive", "busy"),
        SKIPPED,
        [
            "the fault probe_on_the_wrong_path must fail 'replicas_are_ready', which was skipped: not measured; "
            "correct fault, table or check"
        ],
    ),
    (
        "another_server",
        PASSED,
        PASSED,
        [
            "the cheat another_server must fail 'resources_within_budget', which passed; let the check refuse it",
            "the cheat another_server must earn nothing there, and earns 10 at 'resources_within_budget', 90 at "
            "'replicas_are_ready'; let a check refuse it, or set `on` in its table",
        ],
    ),
    (
        "another_server",
        ended("failed", "y" * 200),
        SKIPPED,
        [
            "the cheat another_server must be told 'image.repository is not yours to set' at "
            f"'resources_within_budget', which failed: {'y' * 157}...; correct its table"
        ],
    ),
]


@pytest.mark.parametrize(("name", "first", "second", "said"), WRONG)
def test_what_does_not_is_told(
    small: SmallLab, name: str, first: CheckResult, second: CheckResult, said: list[str]
) -> None:
    assert mistakes(small.lab, small.graded(name, first, second)) == said


def test_a_run_that_broke_off_is_told(small: SmallLab) -> None:
    graded = small.graded("starter", PASSED, SKIPPED)
    broken = msgspec.structs.replace(graded.verdict, reason="the run was interrupted")

    assert mistakes(small.lab, msgspec.structs.replace(graded, verdict=broken)) == [
        "the starter was not graded whole: the run was interrupted; grade it again"
    ]


def test_a_second_run_is_told_by_its_number(small: SmallLab) -> None:
    graded = small.graded("reference", PASSED, ended("failed", "none"), run=2)

    assert mistakes(small.lab, graded) == [
        "the reference (run 2) gets 10 of 100 points, as 'replicas_are_ready' failed: none; correct it, or what the "
        "check asks"
    ]


def changed(graded: Graded, **expected: Any) -> Graded:
    assert graded.case.expected
    case = msgspec.structs.replace(graded.case, expected=msgspec.structs.replace(graded.case.expected, **expected))
    return msgspec.structs.replace(graded, case=case)


def test_what_has_the_same_cause_may_fail_too(small: SmallLab) -> None:
    hint = small.hint(BUDGET, "too_much")
    graded = small.graded("too_many_replicas", ended("failed", "9", hint), ended("failed", "none"))

    assert mistakes(small.lab, changed(graded, also=(READY,))) == []


def test_a_check_elsewhere_may_be_inconclusive(small: SmallLab) -> None:
    hint = small.hint(READY, "unready")
    graded = small.graded("probe_on_the_wrong_path", ended("inconclusive", "busy"), ended("failed", "none", hint))

    assert mistakes(small.lab, graded) == []


def test_a_fault_without_a_hint_must_show_none(small: SmallLab) -> None:
    graded = changed(small.graded("probe_on_the_wrong_path", PASSED, ended("failed", "x")), hint=None)

    assert mistakes(small.lab, graded) == []


def test_a_cheat_may_be_worth_nothing_at_what_it_attacks_alone(small: SmallLab) -> None:
    graded = small.graded("another_server", PASSED, ended("failed", "image.repository is not yours to set"))
    case = changed(graded, check=READY)

    assert mistakes(small.lab, changed(case, on=(READY,))) == []
    assert mistakes(small.lab, case) == [
        "the cheat another_server must earn nothing there, and earns 10 at 'resources_within_budget'; let a check "
        "refuse it, or set `on` in its table"
    ]


def test_a_check_that_is_none_is_told(small: SmallLab) -> None:
    graded = changed(small.graded("another_server", PASSED, PASSED), check="speed")

    assert mistakes(small.lab, graded) == [
        "the cheat another_server names 'speed', which is no check of lab.toml; correct its table"
    ]
    assert mistakes(small.lab, changed(graded, check=BUDGET, on=("pace",))) == [
        "the cheat another_server names 'pace', which is no check of lab.toml; correct its table"
    ]
