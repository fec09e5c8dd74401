"""What the judges of lab 02 make of small facts: each verdict, its words and its hint, and the numbers it asks for."""

import msgspec
import pytest

from ddp_lab import judges
from graders.judging import Asked, load
from tests.labs.facts_02_ddp import FACTS, FAILURES, LAB

JUDGES = judges.JUDGES


def test_every_check_has_a_judge() -> None:
    assert list(JUDGES) == [check.id for check in LAB.checks] == list(FACTS) != []
    assert load(LAB) is JUDGES
    assert len({judge.format for judge in JUDGES.values()}) == len(JUDGES)


@pytest.mark.parametrize("check", FACTS)
def test_what_does_what_is_asked_passes(check: str) -> None:
    asked = Asked(LAB.thresholds["L1"].__getitem__)

    found = JUDGES[check].judge(msgspec.json.encode(FACTS[check]), asked)

    assert (found.verdict, found.hint) == ("passed", None)
    assert set(JUDGES[check].effort) <= LAB.thresholds["L1"].keys() - asked.numbers.keys()


@pytest.mark.parametrize("check", FACTS)
def test_hints_are_those_of_lab_toml(check: str) -> None:
    spec = LAB.check(check)
    assert spec is not None
    assert {hint for name, *_, hint, _ in FAILURES.values() if name == check and hint} == spec.hints.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_what_falls_short_is_told_with_its_hint(name: str) -> None:
    check, facts, verdict, hint, observed = FAILURES[name]

    found = JUDGES[check].judge(msgspec.json.encode(facts), LAB.thresholds["L1"].__getitem__)

    assert (found.verdict, found.hint, found.observed) == (verdict, hint, observed)
