"""JUnit XML, as CI systems read it (schema: junit-10.xsd of pytest, which is the one of Jenkins' xUnit plugin).

Place: `formats` lists it. Limits: one suite, which is the root, as the schema wants it; inconclusive is an error of
type "inconclusive", so that no CI shows it green; points stand in what the test case printed.
"""

from datetime import UTC

from junitparser import Error, Failure, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from graders.rubric import CheckResult, Verdict
from graders.told import plain, text_of


def junit(verdict: Verdict) -> str:
    """The document."""
    suite = TestSuite(verdict.lab)
    suite.timestamp = verdict.started.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    for check in verdict.checks:
        suite.add_testcase(_case(check, verdict.lab))
    suite.update_statistics()
    return str(suite.tostring().decode()) + "\n"


def _case(check: CheckResult, lab: str) -> TestCase:
    case = TestCase(check.id, lab, check.seconds or 0.0)
    case.system_out = f"{plain(check.title)}: {check.points}/{check.max_points}\n{text_of(check)}"
    if result := _result(check):
        case.result = [result]
    return case


def _result(check: CheckResult) -> FinalResult | None:
    said = plain(check.observed or check.status)
    match check.status:
        case "passed":
            return None
        case "failed":
            return Failure(said, "failed")
        case "skipped":
            return Skipped(said)
        case "inconclusive":
            return Error(said, "inconclusive")
        case "error":
            return Error(said, check.error_class)
