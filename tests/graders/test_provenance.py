"""Which code graded: what changes the digests of a lab and of the harness, and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from graders.lab import Lab
from graders.provenance import harness_version, lab_digest

LAB = """
title = "Tiny"
summary = "One check."
minutes = 1

[needs]
nodes = 1

[submission]
files = ["values.yaml"]
max_bytes = 1000

[[checks]]
id = "one"
title = "One"
points = 100

[checks.hints]
wrong = ["a", "b", "c"]

[thresholds.L1]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose code names the chart `mine`, which links to `shared`."""
    for name, text in {
        "labs/01_tiny/lab.toml": LAB,
        "labs/01_tiny/test_tiny.py": 'CHART = "mine"\n',
        "labs/01_tiny/README.md": "# 01_tiny\n",
        "charts/mine/values.yaml": "a: 1\n",
        "charts/other/values.yaml": "a: 1\n",
        "charts/shared/values.yaml": "a: 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "charts/mine/charts").mkdir()
    (tmp_path / "charts/mine/charts/shared").symlink_to("../../shared")
    return Lab.load(tmp_path / "labs" / "01_tiny")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("labs/01_tiny/test_tiny.py", True),
        ("charts/mine/values.yaml", True),
        ("charts/shared/values.yaml", True),
        ("charts/other/values.yaml", False),
        ("labs/01_tiny/README.md", False),
        ("labs/01_tiny/__pycache__/test_tiny.pyc", False),
    ],
)
def test_a_labs_digest_is_that_of_what_it_grades_with(lab: Lab, tmp_path: Path, file: str, counts: bool) -> None:
    before = lab_digest(lab)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "# changed\n")
    assert (lab_digest(lab) != before) is counts


@pytest.mark.parametrize(("name", "counts"), [("graders", True), ("clusters", True), ("docs", False)])
def test_the_harness_is_known_by_its_release_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: bool
) -> None:
    release: Callable[[str], str] = {"gpulab": "9.8.7"}.__getitem__
    monkeypatch.setattr("graders.provenance.version", release)
    before = harness_version(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "one.py").write_text("1\n")
    assert before.startswith("9.8.7+")
    assert len(before) == len("9.8.7+") + 12
    assert (harness_version(tmp_path) != before) is counts


def test_the_wiring_for_pytest_is_part_of_the_harness(tmp_path: Path) -> None:
    before = harness_version(tmp_path)
    (tmp_path / "conftest.py").write_text("1\n")
    assert harness_version(tmp_path) != before
