"""What the lab's infrastructure broke is tried once more before it ends a check: a fixture, or the check itself.

Place: the plugin registers it with pytest. Limits: once for each fixture and each check of a run, never when the
cluster has gone. What is inconclusive is measured again elsewhere, by `Check.measure`.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from graders.check import Check, LabRun

PAUSE_SECONDS = 3.0
"""What was ended is started again within that, where something watches over it."""


class Retry:
    """Pytest's hooks around fixtures and tests.

    Args:
        check_of: the check of a test, None for one that is none.
        run_of: the run that a test file belongs to, None for one that is no lab's.
        is_infrastructure: whether an exception is the infrastructure's fault.
        alive: raises once the cluster in use has gone.
        pause: waits a little.
    """

    def __init__(
        self,
        *,
        check_of: Callable[[pytest.Item], Check | None],
        run_of: Callable[[pytest.Config, Path], LabRun | None],
        is_infrastructure: Callable[[BaseException], bool],
        alive: Callable[[], None],
        pause: Callable[[], None],
    ) -> None:
        self._check_of, self._run_of = check_of, run_of
        self._is_infrastructure, self._alive, self._pause = is_infrastructure, alive, pause
        self._tried: set[tuple[LabRun, str]] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Sets a lab's fixture up once more."""
        try:
            return (yield)
        except Exception as error:
            run = None if request.scope == "session" else self._run_of(request.config, request.path)
            if run is None or not self._may(run, f"fixture {fixturedef.argname}", error):
                raise
        return request.node.ihook.pytest_fixture_setup(fixturedef=fixturedef, request=request)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Measures a check once more, with the fixtures that it has."""
        try:
            return (yield)
        except Exception as error:
            check = self._check_of(pyfuncitem)
            if check is None or not self._may(check.run, f"check {check.spec.id}", error):
                raise
            check.finding = None
        return pyfuncitem.ihook.pytest_pyfunc_call(pyfuncitem=pyfuncitem)

    def _may(self, run: LabRun, what: str, error: Exception) -> bool:
        """Whether to try again; notes it in the record, and waits."""
        if not self._is_infrastructure(error) or (run, what) in self._tried:
            return False
        self._tried.add((run, what))
        self._pause()
        try:
            self._alive()
        except Exception:  # whatever it says: the plugin asks it again, and tells
            return False
        run.record.write("retry", of=what, said=str(error))
        return True
