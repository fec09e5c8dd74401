"""The lab that `gpulab new-lab` writes, in a folder of a test's own, and verdicts on it.

Place: tests of the gates, which plant a mistake in it. Limits: nothing here is graded.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from commands.authors import SKELETON, structural_gates
from graders.gates.gate import Gate
from graders.gates.measured import Graded
from graders.gates.proof import Proof, read_proof
from graders.gates.skeleton import new_lab
from graders.lab import Lab
from graders.provenance import contents
from graders.rubric import CheckResult, Status, Verdict
from tests.graders.verdicts import NOON, result, verdict_on

NAME = "50_small"
TOML, CLUSTER = f"labs/{NAME}/lab.toml", f"labs/{NAME}/cluster.yaml"
TEST, FACTS = f"labs/{NAME}/test_small.py", f"labs/{NAME}/small_lab/facts.py"
FAULTS, CHEATS = f"tests/faults/{NAME}/expected.toml", f"tests/cheats/{NAME}/expected.toml"
BUDGET, READY = "resources_within_budget", "replicas_are_ready"


class SmallLab:
    """The files of a lab that is proven, to be spoilt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder, *_ = new_lab(NAME, skeleton=SKELETON, root=root)
        self.proofs = root / "tests"
        self.faults, self.cheats = self.proofs / "faults" / NAME, self.proofs / "cheats" / NAME
        self.solution = self.proofs / "solutions" / NAME

    @property
    def lab(self) -> Lab:
        return Lab.load(self.folder)

    @property
    def proof(self) -> Proof:
        return read_proof(self.lab, self.proofs)

    def change(self, file: str, before: str, after: str) -> None:
        """Replaces text in a file of the lab, named from the project's root."""
        path = self.root / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def name_of(self, submission: Path) -> str:
        """The case that hands in what is in a folder."""
        return next(case.name for case in self.proof.cases if case.files() == contents(submission))

    def gates(self) -> list[Gate]:
        return structural_gates(self.proof)

    def mistakes(self) -> dict[str, tuple[str, ...]]:
        """What is wrong by gate, with the paths of this test's folder left out."""
        return {
            gate.name: tuple(mistake.replace(f"{self.root}/", "") for mistake in gate.mistakes)
            for gate in self.gates()
            if not gate.holds
        }

    def graded(self, name: str, first: CheckResult, second: CheckResult, *, run: int = 1) -> Graded:
        """A case with how its two checks ended."""
        (case,) = (each for each in self.proof.cases if each.name == name)
        return Graded(case, run, self.verdict(first, second), 60.0)

    def verdict(self, first: CheckResult, second: CheckResult) -> Verdict:
        titles = {BUDGET: ("Resources within the budget", 10), READY: ("Replicas are ready", 90)}
        checks = tuple(
            msgspec.structs.replace(
                each, id=name, title=title, max_points=points, points=points if each.status == "passed" else 0
            )
            for each, (name, (title, points)) in zip((first, second), titles.items(), strict=True)
        )
        return verdict_on(checks, lab=NAME, title=self.lab.title, ended=NOON + timedelta(minutes=1))

    def hint(self, check: str, key: str) -> str:
        """What a learner is shown of a hint."""
        found = self.lab.check(check)
        assert found
        return found.hints[key][0]


def ended(status: Status, observed: str | None = None, hint: str | None = None) -> CheckResult:
    """How a check ended; which one, and its points, come later."""
    return result("", status, 0, expected="so much", observed=observed, hint=hint)


PASSED, SKIPPED = ended("passed", "2 of them are ready"), ended("skipped", "not measured")


def as_due(small: SmallLab) -> Mapping[str, tuple[CheckResult, CheckResult]]:
    """How the checks of each case end where all is as it must be."""
    return {
        "reference": (PASSED, PASSED),
        "starter": (PASSED, ended("failed", "1 of them are ready", small.hint(READY, "few"))),
        "too_many_replicas": (ended("failed", "9 replicas", small.hint(BUDGET, "too_much")), SKIPPED),
        "probe_on_the_wrong_path": (PASSED, ended("failed", "it is not ready", small.hint(READY, "unready"))),
        "another_server": (
            ended("failed", "image.repository is not yours to set", small.hint(BUDGET, "not_yours")),
            SKIPPED,
        ),
    }
