"""The pytest plugin that grades: it binds lab tests to the checks of lab.toml and turns a session into verdicts.

Place: the root conftest makes one `Plugin`, hands in what only it knows (folders, errors of clusters, whether the
cluster lives) and registers it; lab tests use its fixtures `check`, `lab`, `submission` and `record`. It is inert for
other tests. Limits: one process, so no pytest-xdist.

A check is judged by the finding it measured and the exception that ended it, never by the outcome pytest would report.
"""

import inspect
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from graders import fixtures
from graders.check import Check, LabRun
from graders.errors import GraderError, HarnessError, InfrastructureError, SubmissionError
from graders.exports import formats
from graders.fixtures import RUNS
from graders.lab import Lab
from graders.machine import Machine
from graders.next_steps import seen_from
from graders.provenance import lab_digest
from graders.record import NotWritten, Record, run_id
from graders.report import render_scorecard
from graders.retry import PAUSE_SECONDS, Retry
from graders.rubric import (
    CheckResult,
    ClusterFacts,
    ErrorClasses,
    RunHeader,
    ended_by,
    exit_status,
    fault_of,
    result_of,
    root_cause,
    skipped_for,
)
from graders.submission import Submission, read_submission
from graders.terms import Terms
from graders.told import printed
from graders.variants import applied

INTERRUPTED = "the run was interrupted"


_CHECK = pytest.StashKey[Check]()
_PROBLEM = pytest.StashKey[str]()


class Plugin:
    """Grades the labs of one folder.

    Args:
        labs: the folder of labs.
        results: where runs are kept, as `<lab>/<run id>/`.
        submission: which folder to grade for a lab, by its name.
        machine: the machine, for the record.
        version: of the grader.
        errors: whose fault exceptions of other packages are.
        alive: raises, with the reason, once the cluster in use has gone; returns when none was started.
        facts: what is known of the cluster in use, None when none was started.
        others: processor seconds that programs which are neither ours nor the cluster's used so far; None if not known.
        exports: formats to write a run in when it has ended, each with its file.
        secrets: values that are redacted wherever a run would keep them.
        sign: makes a signature of a run's manifest; None for none.
        report: file to write a run's page to when it has ended.
        tiers: how many tiers of a hint are shown.
        terms: on what terms a lab is graded.
        flags: with which the same is graded in the same way again.
        pause: waits before what the infrastructure broke is tried again.
        now: the time, with its zone.
        token: a few random characters for the name of a run.
    """

    def __init__(
        self,
        *,
        labs: Path,
        results: Path,
        submission: Callable[[str], Path],
        machine: Machine,
        version: str,
        errors: ErrorClasses,
        alive: Callable[[], None],
        facts: Callable[[], ClusterFacts | None],
        others: Callable[[], float | None] = lambda: None,
        exports: Sequence[tuple[str, Path]] = (),
        secrets: Sequence[str] = (),
        sign: Callable[[bytes], bytes] | None = None,
        report: Path | None = None,
        tiers: int = 1,
        terms: Callable[[Lab], Terms] = lambda _: Terms(),
        flags: Sequence[str] = (),
        pause: Callable[[], None] = lambda: time.sleep(PAUSE_SECONDS),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token: Callable[[], str] = lambda: secrets.token_hex(3),
    ) -> None:
        self._labs, self._results, self._submission = labs.resolve(), results, submission
        self._machine, self._version, self._errors = machine, version, errors
        self._alive, self._facts, self._tiers, self._now, self._token = alive, facts, tiers, now, token
        self._others = others
        self._terms, self._flags = terms, tuple(flags)
        self._exports, self._report_file, self._unexported = exports, report, list[str]()
        self._secrets, self._sign = secrets, sign
        self._retry = Retry(
            check_of=lambda item: item.stash.get(_CHECK, None),
            run_of=lambda config, path: config.stash.get(RUNS, {}).get(path),
            is_infrastructure=lambda error: fault_of(error, errors) == "infrastructure",
            alive=alive,
            pause=pause,
        )
        self._found: dict[Path, Lab] = {}
        self._interrupted = False

    @pytest.fixture
    def check(self, request: pytest.FixtureRequest) -> Check:
        """The check of this test."""
        found = request.node.stash.get(_CHECK, None)
        if not isinstance(found, Check):
            raise HarnessError(
                f"{request.node.name} is no check of a lab, so it cannot use the fixture `check`; checks are the tests "
                "in labs/LAB/test_*.py that lab.toml names"
            )
        return found

    def pytest_configure(self, config: pytest.Config) -> None:
        """Has pytest load the fixtures that last for a lab's whole test file, and what tries things again."""
        config.pluginmanager.register(fixtures, "gpulab-fixtures")
        config.pluginmanager.register(self._retry, "gpulab-retry")

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Keeps pytest from importing anything in a lab's folder but its own test file."""
        inside = _parts_below(self._labs, collection_path)
        if len(inside) < 2 or not (self._labs / inside[0] / "lab.toml").is_file():
            return None
        return None if len(inside) == 2 and inside[1].startswith("test_") and inside[1].endswith(".py") else True

    def pytest_collect_file(self, file_path: Path) -> None:
        """Reads lab.toml beside a test file that is a lab's."""
        inside = _parts_below(self._labs, file_path)
        if len(inside) == 2 and file_path.suffix == ".py" and (file_path.parent / "lab.toml").is_file():
            try:
                lab = Lab.load(file_path.parent)
                self._found[lab.test_file] = lab
            except GraderError as error:
                raise pytest.Collector.CollectError(str(error)) from error

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Puts the tests of a lab in the order of lab.toml, so that what a check needs comes before it."""
        first: dict[Path, int] = {}
        for place, item in enumerate(items):
            first.setdefault(item.path, place)
        items.sort(key=lambda item: (first[item.path], _rank(self._found.get(item.path), item)))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Starts the record of each lab that was collected."""
        if not session.config.option.collectonly:
            runs = {path: self._begin(lab) for path, lab in self._found.items()}
            session.config.stash[RUNS] = runs
            for path, run in runs.items():
                _bind(run, [item for item in session.items if item.path == path])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Ends a check before anything is set up for it when it cannot be measured."""
        if problem := item.stash.get(_PROBLEM, None):
            raise HarnessError(problem)
        check = item.stash.get(_CHECK, None)
        if check is None:
            return
        if check.run.gone:
            raise InfrastructureError(check.run.gone)
        check.root = root_cause(check.run.lab, check.spec, check.run.finished)
        if check.root:
            pytest.skip(f"{check.root.title!r} did not pass")
        if isinstance(check.run.submission, SubmissionError):
            raise check.run.submission

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Settles a check when its test has ended, and makes pytest's report agree."""
        report = yield
        check = item.stash.get(_CHECK, None)
        error = call.excinfo.value if call.excinfo else None
        if check is None or (error is None and call.when != "call"):
            return report
        if call.when == "teardown":
            result = self._after_teardown(check, error)
        else:
            result = self._after_test(check, error, call.duration)
        if result.status == "skipped":
            said = printed(f"Skipped: {result.observed}")
            report.longrepr = (str(item.path), (item.location[1] or 0) + 1, said)
        elif result.status != "passed":
            report.outcome = "failed"
            if error is None or result.error_class != "harness":
                report.longrepr = printed(f"{result.status}: {result.observed}")
            elif (said := printed(report.longreprtext)) != report.longreprtext:
                report.longrepr = said  # the traceback without its colours
        return report

    def _after_test(self, check: Check, error: BaseException | None, seconds: float) -> CheckResult:
        run = check.run
        try:
            self._alive()
        except Exception as reason:
            run.gone = run.gone or f"the cluster ended: {reason}"
        result = self._ended(check, InfrastructureError(run.gone)) if run.gone else self._result(check, error)
        result = msgspec.structs.replace(result, seconds=round(seconds, 3))
        run.settle(result)
        return result

    def _after_teardown(self, check: Check, error: BaseException | None) -> CheckResult:
        """What could not be cleaned up after a check spoils it, unless it had not passed anyway."""
        result = check.run.finished.get(check.spec.id)
        if error is not None and (result is None or result.status not in ("failed", "error")):
            result = self._ended(check, error)
            check.run.settle(result)
        assert result is not None
        return result

    def _result(self, check: Check, error: BaseException | None) -> CheckResult:
        if isinstance(error, pytest.skip.Exception):
            if check.root:
                return skipped_for(check.spec, check.root, why=check.why)
            return self._ended(check, HarnessError(f"the test skipped itself: {error.msg}"))
        by_measure = isinstance(error, pytest.fail.Exception) and check.finding and check.finding.verdict != "passed"
        if error is not None and not by_measure:
            return self._ended(check, error)
        if check.finding is None:
            return self._ended(check, HarnessError("the test ended without a finding; let it call check.measure"))
        return result_of(check.spec, check.finding, why=check.why, attempts=check.attempts, tiers=self._tiers)

    def _ended(self, check: Check, error: BaseException) -> CheckResult:
        fault = fault_of(error, self._errors)
        known = fault != "harness" or isinstance(error, HarnessError)
        said = str(error) if known else f"{type(error).__name__}: {error}"
        return ended_by(check.spec, fault, said, why=check.why, attempts=check.attempts)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Notes Ctrl-C and pytest.exit; an error of collection comes here too, and is not that."""
        self._interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Writes the verdicts, after the last fixture was torn down, and sets the exit status by them."""
        runs = session.config.stash.get(RUNS, {})
        broken = "pytest had an internal error" if exitstatus == pytest.ExitCode.INTERNAL_ERROR else None
        for run in runs.values():
            run.finish(self._now(), INTERRUPTED if self._interrupted else broken, self._sign)
        if runs:
            session.exitstatus = exit_status(
                exitstatus, [run.verdict.status for run in runs.values()], interrupted=self._interrupted
            )
            self._export(list(runs.values()))
            self._report(list(runs.values()))
            if self._unexported:
                session.exitstatus = 3

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Prints the scorecards."""
        here = config.invocation_params.dir
        for run in config.stash.get(RUNS, {}).values():
            place, labs = seen_from(here, run.place), seen_from(here, self._labs)
            terminalreporter.section("scorecard")
            terminalreporter.write(render_scorecard(run.verdict, place, labs=labs, color=terminalreporter.hasmarkup))
        for said in self._unexported:
            terminalreporter.write_line(printed(f"not exported: {said}"), red=True)

    def _export(self, runs: list[LabRun]) -> None:
        for name, path in self._exports:
            try:
                formats.write(name, path, [(run.place.parent.name, run.verdict) for run in runs])
            except Exception as error:
                self._unexported.append(_said(error))

    def _report(self, runs: list[LabRun]) -> None:
        if self._report_file is None:
            return
        try:
            _write_page(runs, self._report_file)
        except Exception as error:
            self._unexported.append(_said(error))

    def _begin(self, lab: Lab) -> LabRun:
        try:
            terms = self._terms(lab)
            lab = applied(lab, terms.variant) if terms.variant else lab
        except GraderError as error:
            raise pytest.UsageError(str(error)) from error
        submission: Submission | SubmissionError
        try:
            submission = read_submission(self._submission(lab.name), lab)
        except SubmissionError as error:
            submission = error
        now = self._now()
        header = RunHeader(
            lab=lab.name,
            title=lab.title,
            machine=self._machine,
            grader_version=self._version,
            submission=submission.digest if isinstance(submission, Submission) else None,
            started=now,
            lab_digest=lab_digest(lab),
            hint_tiers=self._tiers,
            flags=self._flags,
            **msgspec.structs.asdict(terms),
        )
        folder = self._results / lab.name / run_id(now, self._token())
        try:
            record = Record(folder, secrets=self._secrets, now=self._now)
            return LabRun(lab, record, header, submission, self._facts, self._others)
        except NotWritten as error:
            raise pytest.UsageError(str(error)) from error
        except OSError as error:
            raise pytest.UsageError(
                f"the run's folder {folder} cannot be written ({error.strerror}); make room or name another"
            ) from error


def _bind(run: LabRun, items: list[pytest.Item]) -> None:
    """Gives each test its check; a test that is no check, or one of several for it, is a problem of its own."""
    counts = Counter(_check_id(item) for item in items)
    for item in items:
        spec = run.lab.check(_check_id(item))
        if spec is None:
            item.stash[_PROBLEM] = (
                f"{item.name} is no check of {run.lab.name}, whose checks are: "
                f"{', '.join(check.id for check in run.lab.checks)}; name tests test_<id>"
            )
            run.reasons.append(item.stash[_PROBLEM])
            continue
        if counts[spec.id] > 1:
            item.stash[_PROBLEM] = f"the check {spec.id!r} has {counts[spec.id]} tests; keep one"
        said = inspect.getdoc(getattr(item, "obj", None))
        item.stash[_CHECK] = Check(spec, run, " ".join(said.split()) if said else None)


def _write_page(runs: Sequence[LabRun], file: Path) -> None:
    from graders.html import page  # here, as only a report needs what draws

    if len(runs) > 1:
        raise page.WrongReport(
            f"a report tells of one run, and {len(runs)} labs were graded; write them by `gpulab report RUN`"
        )
    page.write(runs[0].place.parent, file)


def _said(error: Exception) -> str:
    """What it says, with its kind where it is none of the grader's own and nobody wrote a sentence for it."""
    return str(error) if isinstance(error, GraderError) else f"{type(error).__name__}: {error}"


def _check_id(item: pytest.Item) -> str:
    name = item.originalname if isinstance(item, pytest.Function) else item.name
    return name.removeprefix("test_")


def _rank(lab: Lab | None, item: pytest.Item) -> int:
    ids = [check.id for check in lab.checks] if lab else []
    name = _check_id(item)
    return ids.index(name) if name in ids else len(ids)


def _parts_below(folder: Path, path: Path) -> tuple[str, ...]:
    path = path.resolve()
    return path.relative_to(folder).parts if path.is_relative_to(folder) else ()
