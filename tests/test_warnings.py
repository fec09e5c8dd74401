"""Warnings while a lab is graded: they are told and nothing else, whatever they are in the project's own tests."""

from pathlib import Path
from typing import Any

import pytest

import gpulab
from tests.graders.tiny_lab import SECOND, Session

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
WARNING = """
import warnings
def warn():
    warnings.warn("spam is old", DeprecationWarning, stacklevel=1)
warn()
@pytest.fixture
def door():
    warn()
    yield
    warn()
def test_first(check, door):
    warn()
    check.measure(lambda attempt: GOOD)
"""


@pytest.fixture
def wiring(pytestconfig: pytest.Config) -> Any:
    """The root conftest."""
    return pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))


def test_pytest_on_a_lab_makes_no_error_of_a_warning(
    session: Session, wiring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hooks:
        pytest_collect_file = staticmethod(wiring.pytest_collect_file)

    monkeypatch.setattr(wiring, "LABS", session.pytester.path / "labs")
    session.pytester.makeini("[pytest]\nfilterwarnings = error\n")
    session.plugins = [Hooks()]
    result = session.run(WARNING + SECOND)
    assert (result.ret, session.verdict.status) == (0, "passed")
    result.stdout.fnmatch_lines(["*DeprecationWarning: spam is old"])


def test_pytest_on_other_tests_does(session: Session, wiring: Any) -> None:
    class Hooks:
        pytest_collect_file = staticmethod(wiring.pytest_collect_file)

    session.pytester.makeini("[pytest]\nfilterwarnings = error\n")
    session.plugins = [Hooks()]
    result = session.run(WARNING + SECOND)
    assert session.verdict.status == "error"
    result.stdout.fnmatch_lines(["E   DeprecationWarning: spam is old"])


def test_gpulab_has_pytest_make_no_error_of_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def main(words: list[str]) -> int:
        given.extend(words)
        return 0

    monkeypatch.setattr(pytest, "main", main)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        monkeypatch.setenv(name, "")
    assert gpulab.main(["grade", "03_vllm", f"--out={tmp_path}"]) == 0
    assert given[given.index("-W") + 1] == "default"
