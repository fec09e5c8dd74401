"""The fixtures of a graded run that last for a lab's whole test file.

Place: the plugin has pytest load this module. Limits: functions, as pytest takes no methods of an object for fixtures
that outlive a test; what belongs to the run is found through the session.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from graders.check import LabRun
from graders.errors import HarnessError, SubmissionError
from graders.lab import Lab
from graders.record import Record
from graders.rubric import Left
from graders.submission import Submission

RUNS = pytest.StashKey[dict[Path, LabRun]]()
"""The session's runs, by the lab's test file."""


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab this test belongs to."""
    return _run_of(request).lab


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Record:
    """The record of the run."""
    return _run_of(request).record


@pytest.fixture(scope="module")
def submission(request: pytest.FixtureRequest) -> Submission:
    """The submission that is graded; raises SubmissionError when it was refused."""
    found = _run_of(request).submission
    if isinstance(found, SubmissionError):
        raise found
    return found


@pytest.fixture(scope="module")
def leave(request: pytest.FixtureRequest) -> Callable[[Left], None]:
    """Notes in the verdict what the run leaves on the cluster."""
    run = _run_of(request)

    def note(left: Left) -> None:
        run.left = left

    return note


def _run_of(request: pytest.FixtureRequest) -> LabRun:
    found = request.config.stash.get(RUNS, {}).get(request.path)
    if found is None:
        raise HarnessError(
            f"{request.path.name} is no lab's test file, so it cannot use the fixtures of a graded run; a lab's is "
            "labs/LAB/test_*.py, beside its lab.toml"
        )
    return found
