"""JUnit XML, as CI systems read it (schema: junit-10.xsd of pytest, which is the one of Jenkins' xUnit plugin).

Place: `formats` lists it. Limits: one suite, which is the root, as the schema wants it; inconclusive is an error of
type "inconclusive", so that no CI shows it green; points stand in what the test case printed,
which tells nothing else of a hidden check; why a whole run broke is a test case of its own, so that it is not green.
"""

from datetime import UTC

from junitparser import Error, Failure, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from graders.rubric import CheckResult, Verdict
from graders.told import plain, text_for_learners


def junit(verdict: Verdict) -> str:
    """The document."""
    suite = TestSuite(verdict.lab)
    suite.timestamp = verdict.started.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    for check in verdict.checks:
        suite.add_testcase(_case(check, verdict.lab))
    if verdict.reason:
        suite.add_testcase(_broken(verdict, verdict.reason))
    suite.update_statistics()
    return str(suite.tostring().decode()) + "\n"


def _case(check: CheckResult, lab: str) -> TestCase:
    case = TestCase(check.id, lab, check.seconds or 0.0)
    case.system_out = f"{plain(check.title)}: {check.points}/{check.max_points}\n{text_for_learners(check)}"
    if result := _result(check):
        case.result = [result]
    return case


def _broken(verdict: Verdict, reason: str) -> TestCase:
    case = TestCase("run", verdict.lab, 0.0)
    case.system_out = f"{plain(verdict.title)}: 0/0\n{plain(reason)}"
    case.result = [Error(plain(reason), "run")]
    return case


def _result(check: CheckResult) -> FinalResult | None:
    said = plain("" if check.hidden else check.observed or "") or check.status
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
