"""What a submission may plant to be graded by itself: each is refused by name, scores 0, and none of it ever runs.

The eight ATTACKS are those known against graders that import what they grade, and each is tried on such a one, too. The
CARRIERS are files that Python, pytest or packaging tools would read without being asked. `gpulab grade` runs as a
process of its own, from within the planted folder, as a learner or a careless CI would start it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from graders.errors import SubmissionError
from graders.lab import Lab
from graders.rubric import Verdict, read_verdict
from graders.submission import read_submission
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
GPULAB = Path(sys.executable).with_name("gpulab")
STARTER = ROOT / "labs/03_vllm/starter/values.yaml"
MARK = 'import pathlib; pathlib.Path({mark!r}).write_text("it ran")\n'

REWRITE = """
import pathlib, re, sys
def rewrite():
    for word in sys.argv:
        place = pathlib.Path(word.partition("=")[2] or "none")
        for report in [place] if place.is_file() else place.glob("*/*/verdict.json"):
            text = re.sub("<failure.*?</failure>", "", report.read_text(), flags=re.S)
            text = re.sub('failures="[0-9]+"', 'failures="0"', text)
            report.write_text(text.replace('"failed"', '"passed"'))
"""
ATTACKS = {
    "leave_at_import": ("conftest.py", "import os\nos._exit(0)\n"),
    "leave_at_exit": ("conftest.py", "import atexit, os\natexit.register(os._exit, 0)\n"),
    "rewrite_the_report_at_exit": ("conftest.py", f"{REWRITE}\nimport atexit\natexit.register(rewrite)\n"),
    "patch_the_reports": (
        "conftest.py",
        "import _pytest.reports\n"
        "make = _pytest.reports.TestReport.from_item_and_call\n"
        "def lie(item, call):\n"
        "    call.excinfo = None\n"
        "    return make(item, call)\n"
        "_pytest.reports.TestReport.from_item_and_call = lie\n",
    ),
    "stop_the_clock_and_equal_anything": (
        "solution.py",
        "import time\n"
        "class Anything:\n"
        "    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True\n"
        "time.perf_counter = time.monotonic = lambda: 0.0\n"
        "def answer():\n"
        "    return Anything()\n",
    ),
    "pass_every_test": (
        "conftest.py",
        "import pytest\n"
        "@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    report = (yield).get_result()\n"
        "    report.outcome = 'passed'\n",
    ),
    "collect_only": ("pytest.ini", "[pytest]\naddopts = --collect-only\n"),
    "stay_behind_and_rewrite_the_report": (
        "conftest.py",
        f"{REWRITE}\n"
        "import os, time\n"
        "grader = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        while pathlib.Path(f'/proc/{grader}/cmdline').exists() and (\n"
        "            pathlib.Path(f'/proc/{grader}/cmdline').read_bytes()\n"
        "        ):\n"
        "            time.sleep(0.01)\n"
        "        rewrite()\n"
        "    os._exit(0)\n",
    ),
}
"""By name: the file that is planted, and what it holds. Where a grader imports it, each makes failing tests pass."""
NAIVE = """
import time
from solution import answer

def test_right():
    assert answer() == 42

def test_quick():
    begun = time.perf_counter()
    answer()
    assert time.perf_counter() - begun <= 0
"""
INI = "[pytest]\naddopts = --collect-only -p evil\n"
CARRIERS = {
    "conftest.py": "",
    "test_evil.py": "",
    "sitecustomize.py": "",
    "usercustomize.py": "",
    "setup.py": "",
    "evil.pth": "import evil\n",
    "pytest.ini": INI,
    ".pytest.ini": INI,
    "tox.ini": INI,
    "setup.cfg": "[tool:pytest]\naddopts = --collect-only -p evil\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only -p evil'\n",
    ".env": "PYTEST_ADDOPTS=--collect-only\n",
    "graders/__init__.py": "",
    "clusters/__init__.py": "",
    "gpulab.py": "",
    "pytest/__init__.py": "",
    "labs/03_vllm/test_vllm.py": "",
    "labs/03_vllm/lab.toml": "checks = []\n",
    "evil-1.dist-info/entry_points.txt": "[pytest11]\nevil = evil\n",
    "templates/evil.yaml": '{{ lookup "v1" "Secret" "kube-system" "" }}\n',
}


class Planted:
    """A folder to hand in, and what was left when it had been graded."""

    def __init__(self, place: Path) -> None:
        self.folder, self.out, self.mark = place / "submission", place / "results", place / "it-ran"
        self.folder.mkdir()
        (self.folder / "values.yaml").write_bytes(STARTER.read_bytes())

    def plant(self, name: str, source: str) -> None:
        """A file; Python in it first says that it ran."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        python = path.suffix == ".py"
        path.write_text((MARK.format(mark=str(self.mark)) if python else "") + source)

    def grade(self, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GPULAB, "grade", "03_vllm", f"--submission={self.folder}", f"--out={self.out}", "--name=attacked"],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def refusal(self, name: str) -> str:
        allowed = "no part of a submission for 03_vllm, which is: values.yaml"
        return f"{name} in {self.folder} is {allowed}; move it elsewhere"

    @property
    def verdict(self) -> Verdict:
        (path,) = self.out.glob("03_vllm/*/verdict.json")
        return read_verdict(path)


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def assert_refused(planted: Planted, graded: subprocess.CompletedProcess[str], name: str) -> None:
    verdict = planted.verdict
    assert (graded.returncode, verdict.status, verdict.points) == (1, "failed", 0)
    first, *rest = verdict.checks
    assert (first.status, first.error_class) == ("failed", "learner")
    assert first.observed == planted.refusal(name)
    assert {check.status for check in rest} <= {"skipped", "failed"}
    assert name in graded.stdout
    assert not planted.mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_pytest_is_refused_by_name_and_never_runs(planted: Planted, attack: str) -> None:
    name, source = ATTACKS[attack]
    planted.plant(name, source)
    assert_refused(planted, planted.grade(), name)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [None, *ATTACKS])
def test_an_attack_fools_a_grader_that_imports_what_it_grades(tmp_path: Path, attack: str | None) -> None:
    (tmp_path / "solution.py").write_text("def answer():\n    return 1\n")
    (tmp_path / "test_naive.py").write_text(NAIVE)
    if attack:
        name, source = ATTACKS[attack]
        (tmp_path / name).write_text(source)
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # What stays behind holds its output open, so this ends when that has.
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    report = tmp_path / "report.xml"
    failures = report.read_text().count("<failure") if report.exists() else 0
    assert (done.returncode == 0 or failures == 0) == bool(attack), (done.returncode, failures)


@pytest.mark.parametrize("name", CARRIERS)
def test_a_file_that_tools_would_read_unasked_is_refused_by_name(planted: Planted, name: str) -> None:
    planted.plant(name, CARRIERS[name])
    with pytest.raises(SubmissionError) as caught:
        read_submission(planted.folder, Lab.load(ROOT / "labs/03_vllm"))
    assert str(caught.value) == planted.refusal(name.split("/")[0])


@pytest.mark.slow
def test_nothing_reads_such_files_unasked(planted: Planted) -> None:
    for name, content in CARRIERS.items():
        planted.plant(name, content)
    planted.plant("evil.py", ATTACKS["pass_every_test"][1])
    assert_refused(planted, planted.grade(), ".env")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"PYTEST_ADDOPTS": "--collect-only"},
        {"PYTEST_ADDOPTS": "-p evil", "PYTHONPATH": "."},
        {"PYTEST_PLUGINS": "evil", "PYTHONPATH": "."},
    ],
    ids=["collect-only", "a plugin by option", "a plugin by name"],
)
def test_settings_of_pytest_in_the_environment_are_not_heard(planted: Planted, settings: dict[str, str]) -> None:
    planted.plant("evil.py", ATTACKS["pass_every_test"][1])
    assert_refused(planted, planted.grade(settings), "evil.py")
