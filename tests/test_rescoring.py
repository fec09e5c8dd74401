"""`gpulab rescore` on stored runs of the tiny lab: what it prints, exports, refuses and leaves alone."""

import json
import shutil
from pathlib import Path

import pytest

import gpulab
from commands import rescoring
from graders import signing
from graders.record import sums
from tests.graders.judged_lab import THRESHOLDS, change, edit, measured
from tests.graders.tiny_lab import LAB, Session

pytest_plugins = ["pytester"]

OTHERWISE = """\
{run}: 100/100 passed -> 0/100 failed
  first: passed 60/60 -> failed 0/60
    ratio 2 -> 4
    expected: more than 4 with 8 streams
    hint: Think.
  second: passed 40/40 -> skipped 0/40
    observed: not measured, as 'The first' did not pass
"""


def rescored(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = gpulab.main(["rescore", *map(str, words)])
    return status, *capsys.readouterr()


def test_it_prints_what_changes_and_why_and_changes_nothing(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(session, "3.0")
    before = sums(run)
    change(session, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 4"))

    assert rescored(capsys, run, "--lab-from", session.lab) == (
        0,
        OTHERWISE.format(run=run) + "1 run: 1 otherwise, 0 as before, 0 refused\n",
        "",
    )
    assert sums(run) == before


def test_words_that_change_nothing_else_are_told_as_such(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(session, "3.0")
    change(session, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 2.5"))

    assert rescored(capsys, run, "--lab-from", session.lab)[1] == (
        f"{run}: 100/100 passed, as before\n"
        "  first: passed 60/60, as before\n"
        "    ratio 2 -> 2.5\n"
        "    expected: more than 2.5 with 8 streams\n"
        "1 run: 0 otherwise, 1 as before, 0 refused\n"
    )


def test_what_a_scorecard_does_not_show_is_not_told(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(session, "3.0")
    change(session, lab=LAB.replace("points = 60", "points = 60\nhidden = true"))

    assert rescored(capsys, run, "--lab-from", session.lab)[1] == (
        f"{run}: 100/100 passed, as before\n1 run: 0 otherwise, 1 as before, 0 refused\n"
    )


def test_a_refused_run_does_not_stop_the_others(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(session, "3.0")
    results = run.parents[1]
    for name in ("a-changed", "z-killed"):
        shutil.copytree(run, run.with_name(name))
    (run.with_name("a-changed") / "run.jsonl").write_text("{}\n")
    (run.with_name("z-killed") / "manifest.json").unlink()
    lab = results / "02_strange/run"
    shutil.copytree(run, lab)

    status, out, err = rescored(capsys, results, "--lab-from", session.lab)

    assert (status, err) == (2, "")
    assert out == (
        f"{run}: 100/100 passed, as before\n"
        f"refused: {run.parent}/a-changed was changed: run.jsonl is not what its manifest says; get it back, or grade "
        "the submission again\n"
        f"refused: {run.parent}/z-killed has no manifest.json: its run did not end, so it proves nothing; grade the "
        "submission again\n"
        f"{lab}: 100/100 passed, as before\n"
        "4 runs: 0 otherwise, 2 as before, 2 refused\n"
    )


def test_runs_are_judged_by_the_lab_of_their_name_and_by_no_folder_outside(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measured(session, "3.0")
    monkeypatch.setattr(rescoring, "LABS", session.lab.parent)
    assert rescored(capsys, run)[:2] == (
        0, f"{run}: 100/100 passed, as before\n1 run: 0 otherwise, 1 as before, 0 refused\n",
    )  # fmt: skip

    inside = session.lab.parent / "inside"
    inside.mkdir()
    monkeypatch.setattr(rescoring, "LABS", inside)
    edit(run, "verdict.json", lambda text: text.replace('"01_tiny"', '"../01_tiny"'))
    status, out, _ = rescored(capsys, run)
    assert (status, out.splitlines()[0]) == (
        2,
        f"refused: {run}: it is a run of the lab '../01_tiny', which is not in {inside}; name its folder by --lab-from",
    )


def test_with_a_key_runs_that_it_did_not_sign_are_refused(
    session: Session, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    signing.make_keys(tmp_path / "key")
    key = signing.private_key(tmp_path / "key")
    session.sign = lambda manifest: signing.sign(key, manifest).encode()
    run = measured(session, "3.0")
    other = run.with_name("unsigned")
    shutil.copytree(run, other)
    (other / "manifest.json.sig").unlink()
    words = (run.parent, "--lab-from", session.lab, "--key", tmp_path / "key.pub")

    assert rescored(capsys, *words) == (
        2,
        f"{run}: 100/100 passed, as before\n"
        f"refused: {other} proves nothing: the run has no manifest.json.sig, and it is to be signed by "
        f"{signing.fingerprint(key.public_key())}; get it back, or grade the submission again\n"
        "2 runs: 0 otherwise, 1 as before, 1 refused\n",
        "",
    )


def test_a_key_that_cannot_be_read_is_said_before_anything_is_judged(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(session, "3.0")
    assert rescored(capsys, run, "--lab-from", session.lab, "--key", "none") == (
        2, "", "gpulab: the public key none cannot be read: No such file or directory; name its file\n",
    )  # fmt: skip


def test_the_new_verdicts_are_exported(session: Session, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = measured(session, "3.0")
    change(session, lab=LAB.replace("60", "70").replace("40", "30"), thresholds=THRESHOLDS)
    sheet, report = tmp_path / "grades.csv", tmp_path / "results.json"

    status, _, _ = rescored(
        capsys, run, "--lab-from", session.lab, "--export", f"gradebook={sheet}", "--export", f"gradescope={report}"
    )

    assert status == 0
    assert [test["max_score"] for test in json.loads(report.read_text())["tests"]] == [70, 30]
    assert "70" in sheet.read_text()


def test_what_cannot_be_exported_is_said_before_anything_is_read(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(session, "3.0")
    shutil.copytree(run, run.with_name("other"))
    assert rescored(capsys, run.parent, "--export", "junit=report.xml") == (
        2, "", "gpulab: junit tells of one run, 2 were given; export them one by one, or as one of: gradebook, otter\n",
    )  # fmt: skip
    assert rescored(capsys, run, "--export", "grades.csv")[2].startswith("gpulab: 'grades.csv' is not FORMAT=FILE; ")


def test_what_holds_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rescored(capsys, tmp_path) == (
        2,
        "",
        f"gpulab: {tmp_path} holds no run; name a run's folder, a packed run, or a folder of runs, as results/\n",
    )


def test_a_lab_that_is_none_is_named(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(session, "3.0")
    assert rescored(capsys, run, "--lab-from", run) == (
        2, "", f"gpulab: {run} is not a lab: it holds no lab.toml; give the folder of a lab, such as labs/NN_name\n",
    )  # fmt: skip


def test_progress_is_shown_once_it_takes_long(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measured(session, "3.0")
    monkeypatch.setattr(rescoring, "QUIET_SECONDS", -1.0)

    _, _, err = rescored(capsys, run, "--lab-from", session.lab)

    assert err == "[  0.0 s] re-scoring: run 1 of 1\n"


def test_who_sees_the_lines_as_they_are_printed_is_shown_no_progress(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measured(session, "3.0")
    monkeypatch.setattr(rescoring, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    assert rescored(capsys, run, "--lab-from", session.lab)[2] == ""
