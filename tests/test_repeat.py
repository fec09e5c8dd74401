"""Gradings in a row: what is said of each, the report at the end, also after Ctrl-C or a grading that is none."""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest

import gpulab
from commands import course
from commands import repeat as row
from commands.places import ROOT
from commands.repeat import NotGraded, repeat
from graders.rubric import Verdict, write_verdict
from graders.variance import Variance, render, variance_of
from tests.graders.test_variance import RUNS, check, run

FIRST = "run 1 of {} begins: how long it takes is not known yet"
GOOD = [run(number, check("streams"), check("speed", value=5.0)) for number in range(1, 4)]


class Gradings:
    """Stands in for `graded`: writes the next of some runs, or raises it."""

    def __init__(self, *runs: tuple[str, Verdict] | BaseException) -> None:
        self.runs, self.words = list(runs), list[Sequence[str]]()

    def __call__(self, lab: str, words: Sequence[str], results: Path) -> tuple[str, Verdict]:
        self.words.append(words)
        found = self.runs.pop(0)
        if isinstance(found, BaseException):
            raise found
        name, verdict = found
        (results / lab / name).mkdir(parents=True)
        write_verdict(verdict, results / lab / name / "verdict.json")
        return name, verdict


def repeated(results: Path, gradings: Gradings, times: int, *took: float) -> tuple[int, list[str]]:
    """The exit status, and what was said; gradings take so many seconds, or none."""
    said: list[str] = []
    moments = accumulate(moment for each in (*took, *[0.0] * times) for moment in (0.0, each))
    clock = partial(next, moments)
    words = ["--hints=1"]
    return repeat("03_vllm", words, results=results, times=times, say=said.append, grade=gradings, clock=clock), said


def kept(results: Path) -> Variance:
    (path,) = (results / "03_vllm").glob("variance-*.json")
    found = msgspec.json.decode(path.read_bytes(), type=Variance)
    assert path.with_suffix(".txt").is_file()
    return found


def test_each_run_is_told_and_then_what_differs(tmp_path: Path) -> None:
    gradings = Gradings(*GOOD)
    status, said = repeated(tmp_path, gradings, 3)
    assert (status, gradings.words) == (0, [["--hints=1"]] * 3)
    assert said[:2] == [FIRST.format(3), "run 1 of 3, 0 s, run-1: 100/100"]
    assert said[7].startswith("03_vllm, submission abababababab: 3 gradings, ")
    assert said[8] == f"\nkept as {tmp_path}/03_vllm/variance-{kept(tmp_path).key}.json and .txt"
    assert kept(tmp_path).runs == ("run-1", "run-2", "run-3")


def test_each_is_told_when_it_begins_with_how_long_it_may_take(tmp_path: Path) -> None:
    _, said = repeated(tmp_path, Gradings(*GOOD), 3, 30.0, 2000.0)
    assert said[:5] == [
        FIRST.format(3),
        "run 1 of 3, 30 s, run-1: 100/100",
        "run 2 of 3 begins: about 30 s, and 60 s with all that is left",
        "run 2 of 3, 2000 s, run-2: 100/100",
        "run 3 of 3 begins: about 17 min, and 17 min with all that is left",
    ]


def test_a_row_is_told_of_while_its_output_is_kept_in_a_file(tmp_path: Path) -> None:
    row = (
        "import os; from commands.repeat import repeat; from pathlib import Path; "
        "repeat('03_vllm', [], results=Path(), times=1, grade=lambda *_: os._exit(7))"
    )
    ended = subprocess.run([sys.executable, "-c", row], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (7, FIRST.format(1) + "\n")


def test_what_a_run_missed_is_told_at_once(tmp_path: Path) -> None:
    status, said = repeated(tmp_path, Gradings(RUNS[3]), 1)
    assert status == 1
    assert said[1] == "run 1 of 1, 0 s, run-4: 50/100, measured again: speed\n    inconclusive: speed: 4 times"


def test_an_error_outweighs_what_did_not_pass(tmp_path: Path) -> None:
    assert repeated(tmp_path, Gradings(RUNS[2], RUNS[5]), 2)[0] == 3


def test_figures_grow_over_earlier_runs(tmp_path: Path) -> None:
    repeated(tmp_path, Gradings(GOOD[0]), 1)
    repeated(tmp_path, Gradings(*GOOD[1:]), 2)
    assert kept(tmp_path).runs == ("run-1", "run-2", "run-3")


def test_an_earlier_verdict_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "03_vllm/run-0/verdict.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    status, said = repeated(tmp_path, Gradings(GOOD[0]), 1)
    assert (status, kept(tmp_path).runs) == (0, ("run-1",))
    assert said[3] == (
        f"left out: {broken} is not a verdict that can be read: Input data was truncated; grade the submission again"
    )


def test_all_stored_runs_are_compared_but_one_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repeated(tmp_path, Gradings(*GOOD), 3)
    broken = tmp_path / "02_ddp/run-0/verdict.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("[]")
    monkeypatch.setattr(course, "RESULTS", tmp_path)
    assert gpulab.main(["variance"]) == 0
    out, err = capsys.readouterr()
    why = f"{broken} is not a verdict that can be read: Expected `object`, got `array`; grade the submission again"
    assert (out, err) == (render(variance_of(GOOD)), f"left out: {why}\n")
    assert gpulab.main(["variance", str(broken.parent)]) == 2
    assert capsys.readouterr().err == f"gpulab: {why}\n"


def test_ctrl_c_still_reports_what_ended_before(tmp_path: Path) -> None:
    status, said = repeated(tmp_path, Gradings(*GOOD[:2], KeyboardInterrupt()), 100)
    assert status == 130
    assert "interrupted" in said
    assert kept(tmp_path).runs == ("run-1", "run-2")
    nothing = tmp_path / "nothing"
    assert repeated(nothing, Gradings(KeyboardInterrupt()), 100) == (130, [FIRST.format(100), "interrupted"])


def test_a_grading_that_is_none_ends_the_row_and_keeps_what_was(tmp_path: Path) -> None:
    with pytest.raises(NotGraded):
        repeated(tmp_path, Gradings(GOOD[0], NotGraded("no")), 3)
    assert kept(tmp_path).runs == ("run-1",)


def test_runs_that_begin_at_once_in_one_folder_are_not_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Twice:
        """Grades as `gpulab grade` would, while another does."""

        def __init__(self, argv: Sequence[str], *, log: Path) -> None:
            for name in ("ours", "theirs"):
                (tmp_path / argv[3] / name).mkdir(parents=True)

        def wait(self) -> None:
            """Has ended."""

        stop = wait

    monkeypatch.setattr(row, "Child", Twice)
    with pytest.raises(NotGraded) as caught:
        row.graded("03_vllm", [], tmp_path)
    assert str(caught.value) == (
        f"2 runs began in {tmp_path}/03_vllm at once; give these a folder of their own (--out)"
    )


@pytest.mark.slow
def test_gpulab_grades_in_a_row_and_tells_of_stored_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "conftest.py").write_text("")
    words = ["grade", "03_vllm", f"--submission={tmp_path}/submission", f"--out={tmp_path}/results", "--repeat=2"]
    assert gpulab.main(words) == 1
    told = capsys.readouterr().out
    assert "run 2 of 2, " in told
    assert "a check failed     2 of 2, 100.0% (95% interval 15.8% to 100.0%)" in told
    assert gpulab.main(["variance", *map(str, (tmp_path / "results/03_vllm").glob("*"))]) == 0
    assert capsys.readouterr().out.splitlines()[0] in told


@pytest.mark.slow
def test_a_row_whose_first_grading_does_not_begin_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("")
    words = ["grade", "03_vllm", f"--out={tmp_path}/results", "--repeat=2"]
    assert gpulab.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpulab: `gpulab grade` left no run (exit status 2); it said: ")
    # Where Python buffers its output, what pytest counted comes after.
    assert " cannot be written (Not a directory); make room or name another\n" in said


def test_what_cannot_be_repeated_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--export=junit=x.xml", "--report=x.html"):
        assert gpulab.main(["grade", "03_vllm", "--repeat=2", flag]) == 2
        assert capsys.readouterr().err == (
            "gpulab: asked to write each of several runs to one file (--export or --report with --repeat); use `gpulab "
            "export` and `gpulab report` afterwards\n"
        )
    assert gpulab.main(["grade", "03_vllm", "--repeat=2", "--keep"]) == 2
    assert capsys.readouterr().err == (
        "gpulab: asked to leave each of several runs on the cluster (--keep with --repeat), where one is in the way of "
        "the next; grade once with --keep\n"
    )
    with pytest.raises(SystemExit):
        gpulab.main(["grade", "03_vllm", "--repeat=0"])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "gpulab grade: error: argument --repeat: asked to grade '0' times; give a whole number from 1"
    )
