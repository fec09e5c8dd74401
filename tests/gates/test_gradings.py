"""What is graded, what is taken from before, and what is kept: with a function that grades nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from graders.gates.gradings import Gradings, Step, duration
from graders.gates.measured import Graded
from graders.gates.proof import UnknownCase
from graders.provenance import folder_digest
from graders.rubric import CheckResult, Verdict
from tests.gates.small_lab import FAULTS, PASSED, READY, SKIPPED, SmallLab, as_due, ended

ALL = ["reference", "starter", "too_many_replicas", "probe_on_the_wrong_path", "another_server"]


class Grader:
    """Grades as told, leaves a run's folder behind, and remembers what it was asked for."""

    def __init__(self, small: SmallLab) -> None:
        self.small = small
        self.told: dict[str, list[tuple[CheckResult, CheckResult]]] = {
            name: [results] for name, results in as_due(small).items()
        }
        self.asked: list[str] = []
        self.steps: list[str] = []
        self.now = 0.0
        self.broken: BaseException | None = None

    def __call__(self, submission: Path, place: Path) -> Verdict:
        name = self.small.name_of(submission)
        assert [path for path in place.iterdir() if path != submission] == []
        self.asked.append(name)
        (place / "50_small" / "run").mkdir(parents=True)
        (place / "grade.log").write_text("what it printed\n")
        self.now += 100
        if self.broken:
            raise self.broken
        results = self.told[name]
        return self.small.verdict(*(results.pop(0) if len(results) > 1 else results[0]))

    def gradings(self, *, lab: str = "lab", harness: str = "1") -> Gradings:
        folder = self.small.root / "results"
        return Gradings(self.small.proof, folder, self, lab=lab, harness=harness, clock=lambda: self.now)

    def run(
        self, *only: str, runs: int = 1, resume: bool = False, lab: str = "lab", harness: str = "1"
    ) -> Sequence[Graded]:
        gradings = self.gradings(lab=lab, harness=harness)
        self.asked.clear()
        self.steps.clear()

        def before(step: Step) -> None:
            self.steps.append(step.words())

        return list(gradings.run(gradings.due(only, runs, resume=resume), resume=resume, before=before))

    def kept(self) -> Mapping[str, list[str]]:
        return {
            folder.name: sorted(path.name for path in folder.iterdir())
            for folder in sorted((self.small.root / "results").iterdir())
        }


@pytest.fixture
def grader(small: SmallLab) -> Grader:
    return Grader(small)


def test_everything_is_graded_once_in_the_order_of_the_tables(grader: Grader) -> None:
    graded = grader.run()

    assert grader.asked == ALL
    assert [(each.label, each.run, each.seconds, each.reused) for each in graded] == [
        ("reference", 1, 100.0, False),
        ("starter", 1, 100.0, False),
        ("fault too_many_replicas", 1, 100.0, False),
        ("fault probe_on_the_wrong_path", 1, 100.0, False),
        ("cheat another_server", 1, 100.0, False),
    ]
    assert graded[0].verdict.points == 100


def test_the_reference_is_graded_as_often_as_asked(grader: Grader) -> None:
    assert [each.label for each in grader.run("reference", "starter", runs=3)] == [
        "reference",
        "reference (run 2)",
        "reference (run 3)",
        "starter",
    ]


def test_a_case_that_is_none_is_refused_with_those_that_are(grader: Grader) -> None:
    with pytest.raises(UnknownCase) as caught:
        grader.run("batching_off")
    assert str(caught.value) == f"50_small has no case 'batching_off'; its cases are: {', '.join(ALL)}"


def test_what_is_kept_is_taken_again_where_nothing_changed(grader: Grader) -> None:
    first = grader.run()
    again = grader.run(resume=True)

    assert grader.asked == []
    assert [each.verdict for each in again] == [each.verdict for each in first]
    assert {each.reused for each in again} == {True}


def test_without_resume_everything_is_graded_anew(grader: Grader) -> None:
    grader.run()
    grader.run()

    assert grader.asked == ALL


def test_one_case_is_graded_among_those_that_are_kept(grader: Grader) -> None:
    grader.run("reference", "starter")
    graded = grader.run("too_many_replicas", resume=True)

    assert grader.asked == ["too_many_replicas"]
    assert [each.case.name for each in graded] == ALL[:3]


def test_what_was_interrupted_goes_on_where_it_was(grader: Grader) -> None:
    grader.run("reference", "starter")
    grader.broken = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        grader.run(resume=True)
    assert grader.asked == ["too_many_replicas"]
    assert sorted(grader.kept()) == ["reference-1", "starter-1"]

    grader.broken = None
    assert len(grader.run(resume=True)) == 5
    assert grader.asked == ALL[2:]


def test_what_changed_is_graded_again(grader: Grader) -> None:
    grader.run()
    grader.small.change(FAULTS, "replicaCount: 9", "replicaCount: 8")
    grader.run(resume=True)
    assert grader.asked == ["too_many_replicas"]

    grader.small.change("tests/cheats/50_small/another_server/values.yaml", "busybox", "nginx")
    grader.run(resume=True)
    assert grader.asked == ["another_server"]

    grader.run(resume=True, lab="another")
    assert grader.asked == ALL
    grader.run(resume=True, lab="another", harness="2")
    assert grader.asked == ALL


def test_what_is_made_of_the_reference_is_graded_again_when_that_changed(grader: Grader) -> None:
    grader.run()
    reference = grader.small.solution / "values.yaml"
    reference.write_text(f"# Two of them.\n{reference.read_text()}")
    grader.run(resume=True)

    assert grader.asked == ["reference", "too_many_replicas", "probe_on_the_wrong_path"]


def test_a_case_of_edits_is_written_out_and_kept_where_it_went_wrong(grader: Grader) -> None:
    grader.told["probe_on_the_wrong_path"] = [(PASSED, PASSED)]
    grader.run("too_many_replicas", "probe_on_the_wrong_path")

    assert grader.kept() == {
        "fault-probe_on_the_wrong_path-1": ["50_small", "grade.log", "kept.json", "submission", "verdict.json"],
        "fault-too_many_replicas-1": ["grade.log", "kept.json", "verdict.json"],
    }
    written = grader.small.root / "results/fault-probe_on_the_wrong_path-1/submission/values.yaml"
    assert written.read_text() == "replicaCount: 2\nreadiness:\n  path: /healthz\n"


def test_a_table_that_changed_is_held_against_the_kept_verdict(grader: Grader) -> None:
    grader.run()
    grader.small.change(FAULTS, 'hint = "unready"', 'hint = "ending"')
    grader.run(resume=True)

    assert grader.asked == []


def test_one_that_said_nothing_is_graded_again_at_once_and_when_resumed(grader: Grader) -> None:
    busy = (PASSED, ended("inconclusive", "busy"))
    good = grader.told["reference"][0]
    grader.told["reference"] = [busy, good]
    (graded,) = grader.run("reference")
    assert grader.asked == ["reference", "reference"]
    assert (graded.verdict.points, graded.seconds) == (100, 200.0)
    assert grader.steps == [
        "reference: grading 1 of 1, how long it takes is not known yet",
        "reference: replicas_are_ready is inconclusive; grading it a second time",
    ]
    assert grader.kept()["reference-1-undecided"] == ["50_small", "grade.log"]

    grader.told["reference"] = [busy]
    assert grader.run("reference")[0].verdict.points == 10
    grader.run("reference", resume=True)
    assert grader.asked == ["reference", "reference"]


def test_one_that_failed_for_certain_is_not_tried_again(grader: Grader) -> None:
    grader.told["reference"] = [(PASSED, ended("failed", "none"))]
    grader.run("reference")
    assert grader.asked == ["reference"]
    grader.run("reference", resume=True)
    assert grader.asked == []


def test_an_inconclusive_check_that_does_not_matter_is_not_graded_again(grader: Grader) -> None:
    hint = grader.small.hint(READY, "unready")
    grader.told["probe_on_the_wrong_path"] = [(ended("inconclusive", "busy"), ended("failed", "none", hint))]
    grader.run("probe_on_the_wrong_path")
    assert grader.asked == ["probe_on_the_wrong_path"]


def test_samples_are_kept_of_what_went_wrong_only(grader: Grader) -> None:
    grader.told["another_server"] = [(PASSED, SKIPPED)]
    grader.run("reference", "another_server")

    assert grader.kept() == {
        "cheat-another_server-1": ["50_small", "grade.log", "kept.json", "verdict.json"],
        "reference-1": ["grade.log", "kept.json", "verdict.json"],
    }


def test_each_step_says_how_long_it_will_take(grader: Grader) -> None:
    grader.run()
    assert grader.steps[:2] == [
        "reference: grading 1 of 5, how long it takes is not known yet",
        "starter: grading 2 of 5, about 2 min, and 7 min with all that is left",
    ]
    grader.run(runs=2)
    assert grader.steps[1] == "reference (run 2): grading 2 of 6, about 2 min, and 8 min with all that is left"


@pytest.mark.parametrize("name", ["kept.json", "verdict.json"])
def test_what_was_damaged_is_graded_again(grader: Grader, name: str) -> None:
    grader.run("reference")
    (grader.small.root / "results/reference-1" / name).write_text("{")
    grader.run("reference", resume=True)

    assert grader.asked == ["reference"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(8.4, "8 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (3600, "1 h 0 min"), (4900, "1 h 22 min")],
)
def test_times_are_told_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_digest_leaves_documents_and_bytecode_out(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1\n")
    before = folder_digest(tmp_path)
    (tmp_path / "README.md").write_text("words\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_bytes(b"1")
    assert folder_digest(tmp_path) == before

    (tmp_path / "a.py").write_text("2\n")
    assert folder_digest(tmp_path) != before


def test_a_run_that_broke_off_says_nothing(grader: Grader) -> None:
    (graded,) = grader.run("reference")
    assert grader.gradings().kept(graded.case, 1)

    verdict = msgspec.structs.replace(graded.verdict, reason="the run was interrupted", status="error")
    place = grader.small.root / "results/reference-1/verdict.json"
    place.write_bytes(msgspec.json.encode(verdict))
    assert grader.gradings().kept(graded.case, 1) is None
