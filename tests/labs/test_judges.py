"""What the judges of every lab hold to: each check has one, and facts made by hand come to what is written beside them.

Place: a lab adds a row to `TOLD`; what only one lab's judges do is in a file of its own. Limits: facts by hand; those
of real runs are in their records.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType

import msgspec
import pytest

import ddp_lab.judges
import vllm_lab.judges
from graders.judging import Asked, Facts, Judges, load
from graders.lab import Lab
from tests.labs import facts_02_ddp, facts_03_vllm, shortfalls_02_ddp, shortfalls_03_vllm
from tests.labs.shortfalls import Failure


class Told(msgspec.Struct, frozen=True):
    """A lab, the module with its judges, facts of each check that pass, and facts that fall short, by their lack."""

    lab: Lab
    module: ModuleType
    facts: Mapping[str, Facts]
    failures: Mapping[str, Failure]

    @property
    def judges(self) -> Judges:
        judges: Judges = self.module.JUDGES
        return judges


TOLD = {
    each.lab.name: each
    for each in (
        Told(facts_02_ddp.LAB, ddp_lab.judges, facts_02_ddp.FACTS, shortfalls_02_ddp.FAILURES),
        Told(facts_03_vllm.LAB, vllm_lab.judges, facts_03_vllm.FACTS, shortfalls_03_vllm.FAILURES),
    )
}
CHECKS = [(name, check) for name, told in TOLD.items() for check in told.facts]
FAILURES = [(name, lack) for name, told in TOLD.items() for lack in told.failures]


@pytest.mark.parametrize("name", TOLD)
def test_every_check_has_a_judge(name: str) -> None:
    told = TOLD[name]
    assert list(told.judges) == [check.id for check in told.lab.checks] == list(told.facts) != []
    assert load(told.lab) is told.judges
    assert len({judge.format for judge in told.judges.values()}) == len(told.judges)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_what_does_what_is_asked_passes(name: str, check: str) -> None:
    told, judge = TOLD[name], TOLD[name].judges[check]
    asked = Asked(told.lab.thresholds["L1"].__getitem__)

    found = judge.judge(msgspec.json.encode(told.facts[check]), asked)

    assert (found.verdict, found.hint) == ("passed", None)
    assert set(judge.effort) <= told.lab.thresholds["L1"].keys() - asked.numbers.keys()


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_hints_are_those_of_lab_toml(name: str, check: str) -> None:
    spec = TOLD[name].lab.check(check)
    assert spec is not None
    given = {hint for each, *_, hint, _ in TOLD[name].failures.values() if each == check and hint}
    assert given == spec.hints.keys()


@pytest.mark.parametrize(("name", "lack"), FAILURES)
def test_what_falls_short_is_told_with_its_hint(name: str, lack: str) -> None:
    told = TOLD[name]
    check, facts, verdict, hint, observed = told.failures[lack]
    numbers = told.lab.thresholds["L3" if "GPU" in lack else "L1"]

    found = told.judges[check].judge(msgspec.json.encode(facts), numbers.__getitem__)

    assert (found.verdict, found.hint, found.observed) == (verdict, hint, observed)


@pytest.mark.parametrize("name", TOLD)
def test_judges_stand_alone(name: str) -> None:
    """Re-scoring imports them where no cluster and no load generator is at hand."""
    module = TOLD[name].module.__name__
    argv = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    done = subprocess.run(argv, env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded & {"clusters", "uvloop", "graders.load", module.replace("judges", "bench")} == set()
