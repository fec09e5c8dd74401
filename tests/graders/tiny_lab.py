"""A tiny lab, graded by running pytest on it inside pytest.

Place: tests of the plugin, of what it exports, and of attacks on it. Limits: the fixture
`session` of tests/conftest.py makes one, for modules that load the plugin pytester.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graders.lab import Lab
from graders.plugin import Plugin
from graders.rubric import CheckResult, ClusterFacts, Status, Verdict, read_verdict
from graders.terms import Terms
from tests.graders.verdicts import MACHINE, NOON

LAB = """
title = "A tiny lab"
summary = "It is tiny."
minutes = 1
[submission]
files = ["values.yaml"]
[[checks]]
id = "first"
title = "The first"
points = 60
hints = { low = ["Think.", "The answer is 2."] }
[[checks]]
id = "second"
title = "The second"
points = 40
needs = ["first"]
[thresholds.L1]
ratio = 2
"""
HEAD = """
import os
import pytest
from graders.check import Check
from graders.errors import InfrastructureError, SubmissionError
from graders.rubric import Finding

GOOD = Finding(expected="2 or more", observed="3", verdict="passed")
LOW = Finding(expected="2 or more", observed="1", verdict="failed", hint="low")
VAGUE = Finding(expected="2 or more", observed="1 to 3", verdict="inconclusive")

"""
FIRST = '''
def test_first(check: Check) -> None:
    """It matters
    a lot."""
    check.measure(lambda attempt: GOOD)
'''
SECOND = """
def test_second(check: Check) -> None:
    check.measure(lambda attempt: GOOD)
"""
RUN = Path("results/01_tiny/20260901T120000Z-abcdef")


class Session:
    """Runs pytest on the tiny lab, and holds what it left behind."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.lab = pytester.path / "labs/01_tiny"
        (self.lab / "starter").mkdir(parents=True)
        (self.lab / "lab.toml").write_text(LAB)
        (self.lab / "starter/values.yaml").write_text("replicas: 1\n")
        self.alive: Callable[[], None] = lambda: None
        self.facts: ClusterFacts | None = ClusterFacts("L1", ("GPUs",), {"backend": "fake"})
        self.sign: Callable[[bytes], bytes] | None = None
        self.exports: Sequence[tuple[str, Path]] = ()
        self.tiers = 1
        self.terms: Callable[[Lab], Terms] = lambda _: Terms()
        self.report: Path | None = None
        self.flags: Sequence[str] = ()
        self.plugins: Sequence[object] = ()

    def run(self, source: str, *args: str) -> pytest.RunResult:
        (self.lab / "test_tiny.py").write_text(HEAD + source)
        plugin = Plugin(
            labs=self.pytester.path / "labs",
            results=self.pytester.path / "results",
            submission=lambda lab: self.pytester.path / "labs" / lab / "starter",
            machine=MACHINE,
            version="0.1.0",
            errors={ConnectionError: "infrastructure"},
            alive=lambda: self.alive(),
            facts=lambda: self.facts,
            exports=self.exports,
            sign=self.sign,
            tiers=self.tiers,
            terms=self.terms,
            flags=self.flags,
            pause=lambda: None,
            report=self.report,
            now=lambda: NOON,
            token=lambda: "abcdef",
        )
        return self.pytester.runpytest_inprocess(
            os.path.relpath(self.lab),
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            "-ra",
            *args,
            plugins=[plugin, *self.plugins],
            no_reraise_ctrlc=True,
        )

    @property
    def verdict(self) -> Verdict:
        return read_verdict(self.pytester.path / RUN / "verdict.json")

    def check(self, name: str) -> CheckResult:
        return next(check for check in self.verdict.checks if check.id == name)

    def statuses(self) -> list[Status]:
        return [check.status for check in self.verdict.checks]

    def facts_of_the_run(self) -> list[dict[str, Any]]:
        """The lines of run.jsonl."""
        return [
            msgspec.json.decode(line) for line in (self.pytester.path / RUN / "run.jsonl").read_bytes().splitlines()
        ]
