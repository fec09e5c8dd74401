"""The structural gate: whether a lab's files agree with each other, read without running any of them. Seconds.

Place: `gpulab verify` before it grades anything, and the tests for every lab. Limits: whether a fault is really caught
is `measured`'s, and what cluster.yaml says is handed in by those who know clusters.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from graders.errors import HarnessError, SubmissionError
from graders.gates.gate import Gate, counted
from graders.gates.proof import Case, Fault, Proof
from graders.gates.readme import readme
from graders.gates.sources import Code
from graders.lab import CheckSpec, Lab
from graders.submission import read_submission


class Machines(NamedTuple):
    """What a lab's cluster.yaml describes: how many nodes, and GPUs on all of them together."""

    nodes: int
    gpus: int


def structure(proof: Proof, cluster: Machines | str) -> list[Gate]:
    """All gates; `cluster` is what cluster.yaml describes, or why it cannot be read."""
    lab = proof.lab
    code: Code | HarnessError
    try:
        code = Code(lab)
    except HarnessError as error:
        code = error
    return [*_of_code(lab, code), _cluster(lab, cluster), _files(proof), _coverage(proof), readme(lab)]


def _of_code(lab: Lab, code: Code | HarnessError) -> list[Gate]:
    if isinstance(code, HarnessError):
        return [Gate("checks", "the lab's code", (str(code),))]
    hints = [(check, key) for check in lab.checks for key in check.hints]
    numbers = sum(len(names) for names in lab.thresholds.values())
    return [
        Gate(
            "checks",
            f"{counted(len(lab.checks), 'check')}, each with a test and a sentence of why",
            tuple(_tests(lab, code)),
        ),
        Gate.over(
            "hints",
            f"{counted(len(hints), 'hint')}, each for something that a check can observe",
            len(hints),
            [mistake for check in lab.checks for mistake in _hints(check, code)],
            nothing=f"no check of {lab.name} has a hint; say in [checks.hints] what to look at when one fails",
        ),
        Gate(
            "thresholds",
            f"{counted(numbers, 'threshold')} at {', '.join(lab.thresholds)}",
            tuple(_thresholds(lab, code)),
        ),
    ]


def _tests(lab: Lab, code: Code) -> Iterator[str]:
    file = lab.test_file.name
    ids = [check.id for check in lab.checks]
    for name in ids:
        test = code.tests.get(name)
        if test is None:
            yield f"the check {name!r} has no test; write test_{name} in {file}"
        elif not ast.get_docstring(test):
            yield f"test_{name} in {file} has no docstring; say in a sentence why the check matters"
    yield from (
        f"test_{name} in {file} is for no check of lab.toml; list the check there, or call the function otherwise"
        for name in code.tests
        if name not in ids
    )


def _hints(check: CheckSpec, code: Code) -> Iterator[str]:
    if not check.hints:
        yield f"the check {check.id!r} has no hints; say in [checks.hints] what to look at when it fails"
    for key in sorted(code.hints(check.id) - check.hints.keys()):
        yield f"the code of the check {check.id!r} gives the hint {key!r}, which lab.toml does not have; add it there"
    for key in check.hints:
        if key not in code.words:
            yield f"nothing in the lab's code can give the hint {key!r} of the check {check.id!r}; take it out"
    for text, count in Counter(tiers[0] for tiers in check.hints.values()).items():
        if count > 1:
            yield f"{count} hints of the check {check.id!r} begin with {text!r}, so nobody can tell which was shown"


def _thresholds(lab: Lab, code: Code) -> Iterator[str]:
    known = {name for numbers in lab.thresholds.values() for name in numbers}
    if not lab.needs.levels:
        yield f'{lab.name} is graded at no level; name one in lab.toml, as in levels = ["L1"]'
    for level in lab.needs.levels:
        if not lab.thresholds.get(level):
            yield f"{lab.name} is graded at {level}, where lab.toml has no thresholds; add [thresholds.{level}]"
    for name in sorted(code.asked - known):
        yield f"the code asks for the threshold {name!r}, which lab.toml has at no level; add it"
    for name in sorted(known - code.lab_words):
        yield f"nothing in the lab's code asks for the threshold {name!r}; take it out of lab.toml"


def _cluster(lab: Lab, cluster: Machines | str) -> Gate:
    if isinstance(cluster, str):
        return Gate("cluster", "cluster.yaml", (cluster,))
    asked = Machines(lab.needs.nodes, lab.needs.gpus)
    mistakes = [
        f"cluster.yaml of {lab.name} describes {counted(there, what)}, and lab.toml needs {needed}; let them agree"
        for what, there, needed in zip(("node", "GPU"), cluster, asked, strict=True)
        if there < needed
    ]
    return Gate(
        "cluster",
        f"{counted(cluster.nodes, 'node')} with {counted(cluster.gpus, 'GPU')}, enough for the lab",
        tuple(mistakes),
    )


def _files(proof: Proof) -> Gate:
    """Whether each case is a submission, and no two are the same."""
    mistakes: list[str] = []
    seen: dict[str, Case] = {}
    for case in proof.cases:
        with TemporaryDirectory(prefix="gpulab-verify-") as place:
            try:
                digest = read_submission(case.submission(Path(place)), proof.lab).digest
            except SubmissionError as error:
                if case.kind != "cheat":  # one may be what no submission can be
                    said = str(error).replace(place, str(case.folder))
                    mistakes.append(f"the {case.label} cannot be graded: {said}")
                continue
        if other := seen.get(digest):
            mistakes.append(f"the {case.label} is the same as the {other.label}, so it proves nothing; change it")
        seen.setdefault(digest, case)
    files = ", ".join(proof.lab.submission.files)
    return Gate(
        "submissions", f"{counted(len(proof.cases), 'submission')}, of {files} each, no two the same", tuple(mistakes)
    )


def _coverage(proof: Proof) -> Gate:
    """Whether tables, folders and lab.toml agree, and every check is failed by a fault."""
    lab, faults, cheats = proof.lab, proof.of("fault"), proof.of("cheat")
    mistakes = list(proof.mistakes)
    for case in (*faults, *cheats):
        mistakes += _expectation(lab, case)
    if faults:
        named = {case.expected.check for case in faults if case.expected}
        mistakes += [
            f"no fault fails the check {check.id!r}, so nothing proves that it can fail; plant one that it must name"
            for check in lab.checks
            if check.id not in named
        ]
    seen = f"{counted(len(faults), 'fault')}, at least one for each check, and {counted(len(cheats), 'cheat')}"
    return Gate("proof", seen, tuple(mistakes))


def _expectation(lab: Lab, case: Case) -> Iterator[str]:
    """What a table says that lab.toml knows nothing of."""
    expected = case.expected
    assert expected is not None
    for name in expected.checks:
        if lab.check(name) is None:
            yield f"the {case.label} names {name!r}, which is no check of lab.toml; correct its table"
    check = lab.check(expected.check)
    if check and isinstance(expected, Fault) and expected.hint is not None and expected.hint not in check.hints:
        yield f"the {case.label} expects the hint {expected.hint!r}, which {check.id!r} lacks; correct its table"
    if not isinstance(expected, Fault) and not expected.words:
        yield f"the {case.label} expects no words, so any refusal would do; write how the check's observed begins"
