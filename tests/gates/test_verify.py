"""`gpulab verify` and `gpulab new-lab`, word for word, with gradings that are told what they come to."""

import argparse
from pathlib import Path

import pytest

import gpulab
from commands import authors
from commands.places import LABS, PROOFS, ROOT
from commands.repeat import NotGraded
from graders.gates.proof import UnknownCase, read_proof
from graders.gates.skeleton import LabRefused, new_lab
from graders.lab import Lab, known_labs
from graders.rubric import CheckResult, Verdict
from tests.gates.small_lab import NAME, PASSED, SmallLab, as_due, ended
from tests.test_layering import labs_know_graders_and_two_modules, starters_import_nothing_of_ours

STRUCTURE = """\
checks       holds: 2 checks, each with a test and a sentence of why
hints        holds: 6 hints, each for something that a check can observe
thresholds   holds: 3 thresholds at L1
cluster      holds: 1 node with 0 GPUs, enough for the lab
submissions  holds: 5 submissions, of values.yaml each, no two the same
proof        holds: 2 faults, at least one for each check, and 1 cheat
README       holds: 3 numbers and the points of 2 checks, as lab.toml has them
"""


def options(*words: str) -> argparse.Namespace:
    return gpulab.parser().parse_args(["verify", NAME, *words])


def verify(small: SmallLab, *words: str, **told: tuple[CheckResult, CheckResult]) -> int:
    results = {**as_due(small), **told}

    def grade(submission: Path, place: Path) -> Verdict:
        return small.verdict(*results[small.name_of(submission)])

    return authors.verify(small.proof, small.root / "results", grade, options(*words))


def test_all_gates_hold(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(small, "--runs", "2", "--html", str(small.root / "pages/matrix.html")) == 0
    assert capsys.readouterr().out == (
        """\
reference: as it must be (0 s)
reference (run 2): as it must be (0 s)
starter: as it must be (0 s)
fault too_many_replicas: as it must be (0 s)
fault probe_on_the_wrong_path: as it must be (0 s)
cheat another_server: as it must be (0 s)

                               1  2 points
reference                      +  +    100
reference (run 2)              +  +    100
starter                        +  F     10
fault too_many_replicas       [F] -      0
fault probe_on_the_wrong_path  + [F]    10
cheat another_server          [F] -      0

+ passed  F failed  - skipped  ? inconclusive  E error  [F] must  (F) may fail

 1 resources_within_budget
 2 replicas_are_ready

"""
        + STRUCTURE
        + """\
reference    holds: 2 graded, full marks each time
starter      holds: 1 graded, nothing but what it is handed out with
faults       holds: 2 graded, each named by its check with its hint, and by no unrelated one
cheats       holds: 1 graded, each refused in the words for it, and worth nothing where it attacks
"""
    )
    assert "<h1>50_small: what proves it</h1>" in (small.root / "pages/matrix.html").read_text()
    assert (small.root / "results/verify.json").is_file()


def test_a_gate_that_fails_says_so_in_a_sentence(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(small, reference=(PASSED, ended("failed", "1 of them are ready"))) == 1
    told = (
        "  the reference gets 10 of 100 points, as 'replicas_are_ready' failed: 1 of them are ready; correct it, or "
        "what the check asks\n"
    )
    out = capsys.readouterr().out
    assert out.startswith(f"reference: NOT as it must be (0 s)\n{told}starter:")
    assert f"reference    FAILS\n{told}starter      holds:" in out


def test_a_part_proves_no_lab(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(small, "--only", "reference", "--only", "another_server") == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "reference    holds: 1 graded, full marks each time",
        "cheats       holds: 1 graded, each refused in the words for it, and worth nothing where it attacks",
        "3 of 5 cases were left out, which proves no lab; grade the rest with: gpulab verify 50_small --resume",
    ]
    assert verify(small, "--resume") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["reference: as it must be (kept from before)", "starter: as it must be (0 s)"]
    assert verify(small, "--resume", "--only", "starter") == 0
    words = ("--out=a b", "--runs=2", f"--html={small.root}/page.html", "--name=course", "--images=mine.toml")
    assert verify(small, "--only=starter", *words) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "4 of 5 cases were left out, which proves no lab; grade the rest with: gpulab verify 50_small --resume "
        f"--runs=2 '--out=a b' --html={small.root}/page.html --images=mine.toml --name=course"
    )


@pytest.mark.parametrize(
    ("page", "why"),
    [("", "it is a folder"), ("file/page.html", "File exists"), ("file/more/page.html", "Not a directory")],
)
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_graded(
    small: SmallLab, tmp_path: Path, page: str, why: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(authors.PageUnwritable) as caught:
        verify(small, "--html", str(tmp_path / page))
    assert str(caught.value) == f"the table cannot be written to {tmp_path / page} ({why}); name another file"
    assert not (small.root / "results").exists()


def test_what_a_chart_shares_with_others_is_part_of_the_lab(
    small: SmallLab, capsys: pytest.CaptureFixture[str]
) -> None:
    (small.root / "charts/shared").mkdir()
    (small.root / "charts/shared/_helpers.tpl").write_text("before")
    (small.root / "charts/small/charts").mkdir()
    (small.root / "charts/small/charts/shared").symlink_to("../../shared")
    verify(small, "--only", "starter")
    verify(small, "--resume", "--only", "starter")
    assert capsys.readouterr().out.count("starter: as it must be (kept from before)") == 1

    small.change("charts/shared/_helpers.tpl", "before", "after")
    verify(small, "--resume", "--only", "starter")
    assert "starter: as it must be (0 s)" in capsys.readouterr().out


def test_the_structure_alone_grades_nothing(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(small, "--structure") == 0
    assert capsys.readouterr().out == STRUCTURE
    assert not (small.root / "results").exists()


def test_nothing_is_graded_before_the_structure_holds(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    small.change(f"labs/{NAME}/README.md", "2<!-- ready_replicas -->", "3<!-- ready_replicas -->")
    mistake = (
        "README       FAILS\n  README.md of 50_small, line 10, says 3 for 'ready_replicas', where lab.toml has 2 at "
        "L1; correct one of them\n"
    )
    assert verify(small) == 1
    assert capsys.readouterr().out.endswith(f"{mistake}Nothing was graded; correct the above first.\n")
    assert verify(small, "--structure") == 1
    assert capsys.readouterr().out.endswith(mistake)

    assert verify(small, "--only", "starter") == 1  # while its author works on one of them
    assert mistake in capsys.readouterr().out


def test_a_case_is_written_out_to_be_looked_at(
    small: SmallLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a case"
    assert authors.write_out(small.proof, "probe_on_the_wrong_path", place) == 0
    assert capsys.readouterr().out == (
        f"The fault probe_on_the_wrong_path of 50_small is in {place}.\n"
        f"What it changes: diff -r {small.solution} '{place}'\n"
        f"What it comes to: gpulab grade 50_small --submission '{place}'\n"
    )
    assert [path.name for path in place.iterdir()] == ["values.yaml"]
    assert (place / "values.yaml").read_text() == "replicaCount: 2\nreadiness:\n  path: /healthz\n"

    with pytest.raises(authors.FolderTaken) as caught:
        authors.write_out(small.proof, "another_server", place)
    assert str(caught.value) == (
        f"asked to write the cheat another_server into {place}, which is there already; name a new folder"
    )


def test_a_case_that_cannot_be_made_is_none_and_says_where_that_is_told(small: SmallLab, tmp_path: Path) -> None:
    small.change(f"tests/faults/{NAME}/expected.toml", "replicaCount: 9", "replicaCount: 2")
    small.change(f"tests/faults/{NAME}/expected.toml", 'old = "replicaCount: 2"', 'old = "replicas: 2"')
    with pytest.raises(UnknownCase) as caught:
        authors.write_out(small.proof, "too_many_replicas", tmp_path / "case")
    assert str(caught.value) == (
        "50_small has no case 'too_many_replicas'; its cases are: reference, starter, probe_on_the_wrong_path, "
        "another_server; others are wrong, which `gpulab verify 50_small --structure` tells"
    )
    assert not (tmp_path / "case").exists()


def test_the_command_writes_a_case_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "case"
    assert gpulab.main(["verify", "03_vllm", "--write-out", "batching_off", str(place)]) == 0
    assert (place / "values.yaml").read_bytes() == (ROOT / "tests/faults/03_vllm/batching_off/values.yaml").read_bytes()
    assert gpulab.main(["verify", "03_vllm", "--write-out", "batching_off", str(place)]) == 2
    assert capsys.readouterr().err.endswith("which is there already; name a new folder\n")


def test_ctrl_c_says_how_to_go_on(small: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    def grade(submission: Path, place: Path) -> Verdict:
        if "starter" in submission.parts:
            raise KeyboardInterrupt
        return small.verdict(PASSED, PASSED)

    with pytest.raises(KeyboardInterrupt):
        authors.verify(small.proof, small.root / "results", grade, options("--runs=2"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "gpulab: 2 of 6 gradings are done; go on with: gpulab verify 50_small --resume --runs=2"
    )
    with pytest.raises(KeyboardInterrupt):
        authors.verify(small.proof, small.root / "results", grade, options("--only=starter"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "gpulab: 0 of 1 gradings are done; go on with: gpulab verify 50_small --resume --only=starter"
    )
    assert verify(small, "--resume") == 0
    assert capsys.readouterr().out.startswith(
        "reference: as it must be (kept from before)\nstarter: as it must be (0 s)"
    )


@pytest.mark.slow
def test_a_case_is_graded_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission/conftest.py").write_text("raise SystemExit(0)\n")
    place = tmp_path / "place"
    place.mkdir()

    verdict = authors.grader(Lab.find(LABS, "03_vllm"), options())(tmp_path / "submission", place)

    assert (verdict.points, verdict.checks[0].status) == (0, "failed")
    assert sorted(path.name for path in place.iterdir()) == ["03_vllm", "grade.log"]


@pytest.mark.slow
def test_a_grading_without_a_verdict_is_told_with_its_last_words(small: SmallLab, tmp_path: Path) -> None:
    with pytest.raises(NotGraded) as caught:
        authors.grader(small.lab, options())(small.solution, tmp_path)
    assert str(caught.value) == (
        "`gpulab grade` left no run (exit status 2); it said: gpulab: there is no lab '50_small'; the labs are: "
        f"{', '.join(known_labs(LABS))}"
    )


@pytest.mark.parametrize("words", [["--runs", "0"], ["--runs", "two"]])
def test_a_number_of_runs_is_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(*words)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gpulab verify: error: argument --runs: asked to grade {words[1]!r} times; give a whole number from 1"
    )


def test_a_new_lab_keeps_the_rules_of_labs(small: SmallLab) -> None:
    path = f"labs/{NAME}/test_small.py"
    sources = {path: (small.root / path).read_text()}

    assert labs_know_graders_and_two_modules(sources) == []
    assert starters_import_nothing_of_ours(sources) == []


def test_a_new_lab_has_its_own_names_everywhere(tmp_path: Path) -> None:
    folders = new_lab("51_web_server2", skeleton=authors.SKELETON, root=tmp_path)

    assert [folder.relative_to(tmp_path).as_posix() for folder in folders] == [
        "labs/51_web_server2",
        "charts/web-server2",
        "tests/solutions/51_web_server2",
        "tests/faults/51_web_server2",
        "tests/cheats/51_web_server2",
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "labs/51_web_server2/test_web_server2.py" in files
    assert [path for path in files if "skeleton" in f"{path.relative_to(tmp_path)} {path.read_text()}"] == []


@pytest.mark.parametrize("name", ["web", "1_web", "01_Web", "01_", "01_web_", "01-web", "../01_web", "01_web/x"])
def test_a_name_that_is_no_labs_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabRefused) as caught:
        new_lab(name, skeleton=authors.SKELETON, root=tmp_path)
    assert str(caught.value) == (
        f"asked for a lab named {name!r}; labs are named with two digits and what they are about, as 04_autoscaling"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "charts/web").mkdir(parents=True)
    with pytest.raises(LabRefused) as caught:
        new_lab("01_web", skeleton=authors.SKELETON, root=tmp_path)
    assert str(caught.value) == (
        "asked for a lab named '01_web', but this is there already: charts/web; choose another name"
    )
    assert not (tmp_path / "labs").exists()

    assert gpulab.main(["new-lab", "03_vllm"]) == 2
    assert capsys.readouterr().err == (
        "gpulab: asked for a lab named '03_vllm', but this is there already: labs/03_vllm, charts/vllm, "
        "tests/solutions/03_vllm, tests/faults/03_vllm, tests/cheats/03_vllm; choose another name\n"
    )


def test_an_unknown_lab_and_an_unknown_case_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpulab.main(["verify", "99_none"]) == 2
    assert capsys.readouterr().err == (
        f"gpulab: there is no lab '99_none'; the labs are: {', '.join(known_labs(LABS))}\n"
    )
    assert gpulab.main(["verify", "03_vllm", "--only", "none", "--out", str(tmp_path)]) == 2
    cases = ", ".join(case.name for case in read_proof(Lab.find(LABS, "03_vllm"), PROOFS).cases)
    assert cases.startswith("reference, starter, ")
    assert capsys.readouterr().err == f"gpulab: 03_vllm has no case 'none'; its cases are: {cases}\n"


def test_the_skeleton_is_where_the_command_looks() -> None:
    assert (authors.SKELETON / "labs/00_skeleton/lab.toml").is_file()
    assert authors.SKELETON.is_relative_to(ROOT)
