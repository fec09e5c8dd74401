"""`gpulab report`, and `--report` of a grading: which run, which file, and what is said when it cannot be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpulab
from commands import reporting
from graders.html import page
from tests.graders.tiny_lab import FIRST, HEAD, RUN, SECOND, Session
from tests.html.conftest import store_whole

ROOT = Path(__file__).resolve().parents[2]
pytest_plugins = ["pytester"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = gpulab.main(words)
    found = capsys.readouterr()
    return status, found.out, found.err


def test_a_run_is_reported_beside_its_folder_or_where_it_is_wanted(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside, wanted = stored.with_name(f"{stored.name}.html"), tmp_path / "page.html"
    assert said(capsys, "report", str(stored)) == (0, f"{beside}\n", "")
    assert said(capsys, "report", str(stored), "--out", str(wanted)) == (0, f"{wanted}\n", "")
    assert beside.read_text() == wanted.read_text()


@pytest.mark.slow
def test_settings_in_the_working_folder_are_not_heard(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\x00 no settings")
    program = [str(Path(sys.executable).with_name("gpulab")), "report", str(stored)]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{stored}.html\n", "")


def test_what_draws_is_not_loaded_before_a_report_is_asked_for() -> None:
    source = "import sys, gpulab, conftest, graders.plugin; print({'matplotlib', 'numpy', 'jinja2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_paths_are_told_from_the_working_folder(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.write(stored).read_text()
    log = "results/03_vllm/20260901T120000Z-abcdef/evidence/cluster/logs/submission-0/vllm.log"
    assert f"<code>tail -n 40 {log}</code>" in text
    assert f"<code>pytest {ROOT}/labs/03_vllm -k test_objective</code>" in text
    assert str(tmp_path) not in text
    monkeypatch.chdir(ROOT)
    assert "<code>pytest labs/03_vllm -k test_objective</code>" in page.write(stored, tmp_path / "page").read_text()


def test_the_newest_run_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "RESULTS", tmp_path / "results")
    assert said(capsys, "report") == (
        2,
        "",
        f"gpulab: asked to report the newest run, but {tmp_path / 'results'} holds none; grade a lab, or name a run's "
        "folder\n",
    )
    for name in ("01_a/20260902T120000Z-a", "03_vllm/20260901T120000Z-b"):
        store_whole(tmp_path / "results" / name)
    assert said(capsys, "report")[1] == f"{tmp_path / 'results/01_a/20260902T120000Z-a.html'}\n"


def test_a_grading_writes_the_report_of_its_run(session: Session, tmp_path: Path) -> None:
    session.report = tmp_path / "report.html"
    assert session.run(FIRST + SECOND).ret == 0
    text = (tmp_path / "report.html").read_text()
    assert "<h1>A tiny lab</h1>" in text
    assert "It holds: all files are as they were sealed, and prove the verdict; not signed." in text


def test_a_report_of_several_labs_is_refused_and_the_verdicts_stand(session: Session, tmp_path: Path) -> None:
    shutil.copytree(session.lab, session.lab.with_name("02_other"))
    (session.lab.with_name("02_other") / "test_other.py").write_text(HEAD + FIRST + SECOND)
    session.report = tmp_path / "report.html"
    result = session.run(FIRST + SECOND, "labs/02_other")
    assert result.ret == 3
    assert session.statuses() == ["passed", "passed"]
    said = "a report tells of one run, and 2 labs were graded; write them by `gpulab report RUN`"
    assert [line for line in result.outlines if line.startswith("not exported")] == [f"not exported: {said}"]
    assert not session.report.exists()


def test_a_report_that_cannot_be_written_is_said_and_the_verdict_stands(session: Session) -> None:
    session.report = session.pytester.path / RUN / "report.html"
    result = session.run(FIRST + SECOND)
    assert result.ret == 3
    assert session.statuses() == ["passed", "passed"]
    result.stdout.fnmatch_lines(
        [
            f"not exported: asked to write the report to {session.report}, inside the run's folder, whose manifest "
            "tells every file there; name a file elsewhere"
        ]
    )
