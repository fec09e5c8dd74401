"""Kubernetes' end-to-end suite: its command lines, and what its reports say.

Place: `run.py` runs the command lines, and prints what is made of the reports here. Limits: pure but for reading a
report; the format is Ginkgo's JSON report.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

PARALLEL, SERIAL = "Conformance && !Serial", "Conformance && Serial"
"""Ginkgo label filters: the specs that may run side by side, and those that want the cluster for themselves."""
_SIG = re.compile(r"\[(sig-[\w-]+)\]")
_EMPTY_WORDS = re.compile(r"(Unexpected error:|<.*>:?|occurred|\{|\}|Expected|Told to stop trying.*)$")


class _Failure(msgspec.Struct, rename="pascal"):
    message: str = ""


class _Spec(msgspec.Struct, rename="pascal"):
    leaf_node_type: str
    leaf_node_text: str
    state: str
    container_hierarchy_texts: list[str] | None = None
    run_time: int = 0
    failure: _Failure | None = None


class _Report(msgspec.Struct, rename="pascal"):
    spec_reports: list[_Spec] | None = None
    special_suite_failure_reasons: list[str] | None = None


class Result(msgspec.Struct, frozen=True):
    """One spec that ran: `reason` is the first line that tells why it failed, "" when it passed."""

    name: str
    sig: str
    passed: bool
    seconds: float
    reason: str = ""


def command(
    built: Path, *, labels: str, focus: Sequence[str], skip: Sequence[str], procs: int, report: Path
) -> list[str]:
    """The argument list that runs the specs with these labels, `procs` at a time, up to the suite's own flags.

    `built` is the folder of its programs.
    """
    words = [str(built / "ginkgo"), "-v", "--no-color", "--timeout=3h", f"--procs={procs}", f"--label-filter={labels}"]
    words += [f"--focus={text}" for text in focus] + [f"--skip={text}" for text in skip]
    return [*words, f"--output-dir={report.parent}", f"--json-report={report.name}", str(built / "e2e.test"), "--"]


def exactly(names: Iterable[str]) -> str:
    """A regular expression of Go's for the specs with these names, before which the suite puts its own."""
    return f" ({'|'.join(re.escape(name).replace(chr(92) + ' ', ' ') for name in names)})$"


def flags(kubeconfig: Path, kubectl: Path, folder: Path) -> list[str]:
    """The suite's own flags, for a cluster of no particular provider."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--kubectl-path={kubectl}",
        "--provider=skeleton",
        "--disable-log-dump",
        "--dump-logs-on-failure=false",
        "--node-os-distro=custom",
        f"--report-dir={folder}",
        f"--e2e-output-dir={folder}",
    ]


def results(report: bytes) -> list[Result]:
    """The specs that ran, from a JSON report; a failed set-up of the whole suite is one of them."""
    found = []
    for suite in msgspec.json.decode(report, type=list[_Report]):
        for spec in suite.spec_reports or []:
            name = " ".join([*(spec.container_hierarchy_texts or []), spec.leaf_node_text])
            ran = spec.state not in {"skipped", "pending"}
            passed = spec.state == "passed"
            if ran and (spec.leaf_node_type == "It" or not passed):
                reason = "" if passed else _reason(spec.failure.message if spec.failure else spec.state)
                found.append(Result(name, sig(name), passed, spec.run_time / 1e9, reason))
    return found


def sig(name: str) -> str:
    """The special interest group that a spec's name begins with, or "suite"."""
    match = _SIG.match(name)
    return match[1] if match else "suite"


def table(found: Iterable[Result]) -> str:
    """Passed of total by SIG, as Markdown."""
    passed, total = Counter[str](), Counter[str]()
    for result in found:
        total[result.sig] += 1
        passed[result.sig] += result.passed
    rows = [f"| {name} | {passed[name]} | {total[name]} |" for name in sorted(total)]
    return "\n".join(["| SIG | passed | of |", "|---|---|---|", *rows, f"| all | {passed.total()} | {total.total()} |"])


def failures(found: Iterable[Result]) -> str:
    """Each spec that failed, and why."""
    return "\n".join(f"{each.name}\n    {each.reason}" for each in found if not each.passed)


def _reason(message: str) -> str:
    lines = [line.strip() for line in message.splitlines()]
    told = [line for line in lines if line and not _EMPTY_WORDS.match(line)]
    return (told or ["no reason given"])[0][:300]
