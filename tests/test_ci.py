"""What instructors copy from ci/: the workflow fits GitHub's schema, commands are gpulab's, Gradescope gets results.

Limits: nothing here runs at GitHub or Gradescope, and no image is built; docs/instructors.md says what was tried.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import gpulab
from graders.variants import LONGEST_ID, checked_id
from tests.exports.consumers import of_gradescope
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "ci"
WORKFLOW = CI / "github/grade.yml"
CHOOSE = "Choose Ubuntu 24.04 or later as the base image in Gradescope, or install one above.\n"
SCRIPTS = [CI / "gradescope/setup.sh", CI / "gradescope/run_autograder"]
METADATA = {
    "id": 123456,
    "created_at": "2026-10-01T23:59:30.123456-07:00",
    "assignment": {"title": "vLLM", "due_date": "2026-10-01T23:59:00.000000-07:00"},
    "users": [{"email": "bob@school.edu", "name": "Bob"}, {"email": "alice@school.edu", "name": "Alice"}],
    "previous_submissions": [],
}
ENGINE = """#!/bin/sh
printf '%s\\n' "$@" >>{log}
[ "$1" = doctor ] && exit 0
{grade}
"""


def steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return list(job["steps"])


def commands(text: str) -> list[list[str]]:
    """The words of each call of gpulab in a shell script."""
    whole = text.replace("\\\n", " ")
    return [
        shlex.split(each)
        for each in re.findall(r"^\s*(?:timeout .* )?(\S*\bgpulab\"? (?:grade|doctor|prepare).*)$", whole, re.MULTILINE)
    ]


def test_the_workflow_is_one_by_githubs_schema() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_workflow_pins_actions_uses_no_secret_and_puts_no_foreign_text_into_scripts() -> None:
    text = WORKFLOW.read_text()
    assert "secrets." not in text
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+\.\d+\.\d+", each)] == []
    assert [step["name"] for step in steps() if "${{" in step.get("run", "")] == []
    assert all(step["with"]["persist-credentials"] is False for step in steps() if "checkout" in step.get("uses", ""))


def test_the_workflow_publishes_and_keeps_what_it_graded_whether_all_passed_or_not() -> None:
    by_name = {step["name"]: step for step in steps()}
    grade = by_name["Grade"]["run"]
    for file in ("summary.md", "annotations.txt", "junit.xml"):
        assert f"../report/{file}" in grade
    assert "report/summary.md" in by_name["Publish"]["run"]
    assert "report/annotations.txt" in by_name["Publish"]["run"]
    kept = by_name["Keep the verdict and its evidence"]
    assert kept["with"]["path"].split() == ["results", "report"]
    assert kept["if"] == by_name["Publish"]["if"] == "${{ !cancelled() }}"


def test_the_workflow_keeps_what_it_built_before_a_grade_can_end_the_job() -> None:
    names = [step["name"] for step in steps()]
    save = names.index("Keep programs and images for later runs")
    assert (names[save - 1], names[save + 1]) == ("Prepare", "Grade")
    by_name = {step["name"]: step for step in steps()}
    fetched = by_name["Fetch programs and images of earlier runs"]
    assert fetched["with"]["path"] == by_name[names[save]]["with"]["path"]
    assert by_name[names[save]]["with"]["key"] == f"${{{{ steps.{fetched['id']}.outputs.cache-primary-key }}}}"
    assert "concurrency" not in yaml.safe_load(WORKFLOW.read_text())  # a newer push would cancel one that waits


def graded_by_the_workflow(place: Path, grade: str) -> tuple[int, list[str]]:
    """The status of its step "Grade" and the lines that it prints, where gpulab is these lines of shell."""
    program = place / ".venv/bin/gpulab"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{grade}\n")
    program.chmod(0o755)
    (script,) = [step["run"] for step in steps() if step["name"] == "Grade"]
    shell = ["bash", "-e", "-c", script]  # as GitHub's runner does, with the script in a file
    env = {**os.environ, "LAB": "03_vllm", "STUDENT": "alice"}
    ended = subprocess.run(shell, cwd=place, env=env, stdout=subprocess.PIPE, text=True, check=False)
    return ended.returncode, ended.stdout.splitlines()


@pytest.mark.parametrize("status", [0, 1, 3])
def test_the_workflow_hears_no_command_while_it_grades(tmp_path: Path, status: int) -> None:
    tokens = set()
    for name in ("first", "second"):
        ended, (before, printed, after) = graded_by_the_workflow(tmp_path / name, f"echo ::add-mask::x; exit {status}")
        assert (ended, printed) == (status, "::add-mask::x")
        token = before.removeprefix("::stop-commands::")
        assert (len(token) >= 32, before, after) == (True, f"::stop-commands::{token}", f"::{token}::")
        tokens.add(token)
    assert len(tokens) == 2
    (publish,) = [step["run"] for step in steps() if step["name"] == "Publish"]
    assert "stop-commands" not in publish


@pytest.mark.parametrize("script", ["workflow", *(path.name for path in SCRIPTS)])
def test_every_gpulab_command_fits_the_parser(script: str) -> None:
    files = {path.name: path.read_text() for path in SCRIPTS}
    text = "\n".join(step.get("run", "") for step in steps()) if script == "workflow" else files[script]
    found = commands(text)
    assert found
    for _, *words in found:
        gpulab.parser().parse_args([word for word in words if word != "${flags[@]}"])


@pytest.mark.parametrize("script", [*SCRIPTS, *range(2)], ids=str)
def test_scripts_are_bash(script: Path | int) -> None:
    text = script.read_text() if isinstance(script, Path) else [s["run"] for s in steps() if "run" in s][-1 - script]
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_is_made_of_what_is_there() -> None:
    text = (CI / "Containerfile").read_text()
    found = commands(text.replace("&& ", "\n"))
    assert found
    for command in found:
        gpulab.parser().parse_args(command[1:])
    instructions = re.findall(r"^([A-Z]+) ", text, re.MULTILINE)
    assert instructions == ["FROM", "RUN", "COPY", "USER", "WORKDIR", "RUN", "ENTRYPOINT", "CMD"]
    makefile = (ROOT / "Makefile").read_text()
    packages = re.search(r"^PACKAGES := (.*)$", makefile, re.MULTILINE)
    assert packages
    for script in (text, SCRIPTS[0].read_text(), WORKFLOW.read_text()):
        assert all(package in script for package in packages[1].split())


@pytest.mark.parametrize(("graded", "ended"), [(0, 0), (1, 0), (2, 2), (3, 3)])
def test_classroom_50_takes_less_than_full_marks_for_a_grading(tmp_path: Path, graded: int, ended: int) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/formats.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "gpulab").write_text(f"#!/bin/sh\necho $@\nexit {graded}\n")
    (tmp_path / "gpulab").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", block], env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == ended
    gpulab.parser().parse_args(done.stdout.split())


def set_up_gradescope(place: Path, pythons: dict[str, str], bubblewrap: str = "0.8.0") -> tuple[int, str, str]:
    """Status, what make was told, and the errors of setup.sh, run by no root, where these are all the Pythons."""
    tools = place / "tools"
    tools.mkdir()
    (place / "source/gpulab/.venv/bin").mkdir(parents=True)
    (place / "source/lab").write_text("03_vllm\n")
    programs = {"id": "echo 1000", "make": 'echo "$@"', "bwrap": f"echo bubblewrap {bubblewrap}", **pythons}
    for program, does in {**programs, "../source/gpulab/.venv/bin/gpulab": 'echo "gpulab $@"'}.items():
        (tools / program).write_text(f"#!/bin/sh\n{does}\n")
        (tools / program).chmod(0o755)
    (tools / "cat").symlink_to(str(shutil.which("cat")))
    done = subprocess.run(
        [str(shutil.which("bash")), SCRIPTS[0]],
        env={"PATH": str(tools), "AUTOGRADER": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_gradescopes_setup_takes_a_python_that_is_new_enough(tmp_path: Path) -> None:
    old = '[ "$1" = --version ] && echo Python 3.10.12; exit 1'
    for name, pythons, chosen in (
        ("first", {"python3": "exit 0"}, "python3"),
        ("beside", {"python3": old, "python3.11": "exit 0"}, "python3.11"),
    ):
        (tmp_path / name).mkdir()
        place = tmp_path / name
        made = f"-C {place}/source/gpulab PYTHON={chosen} .venv/ready\ngpulab prepare --lab 03_vllm\n"
        assert set_up_gradescope(place, pythons) == (0, made, "")
    (tmp_path / "none").mkdir()
    said = f"setup.sh needs Python 3.11 or later with venv, and found Python 3.10.12.\n{CHOOSE}"
    assert set_up_gradescope(tmp_path / "none", {"python3": old.replace("exit 1", "exit $?")}) == (1, "", said)


@pytest.mark.parametrize(("version", "ended"), [("0.6.1", 1), ("0.8.0", 0), ("0.11.0", 0), ("1.0.0", 0)])
def test_gradescopes_setup_ends_where_nothing_could_be_graded(tmp_path: Path, version: str, ended: int) -> None:
    status, _, errors = set_up_gradescope(tmp_path, {"python3": "exit 0"}, version)
    said = f"setup.sh needs bubblewrap 0.8 or later, and found bubblewrap 0.6.1.\n{CHOOSE}"
    assert (status, errors) == (ended, said if ended else "")


class Autograder:
    """A folder as Gradescope's /autograder, with a gpulab that does as it is told."""

    def __init__(self, place: Path) -> None:
        self.place, self.log, self.said = place, place / "gpulab.log", ""
        (place / "source").mkdir()
        (place / "source/lab").write_text("03_vllm\n")
        (place / "source/whose.py").write_bytes((CI / "gradescope/whose.py").read_bytes())
        (place / "submission").mkdir()

    def with_gpulab(self, grade: str) -> None:
        """A gpulab whose `grade` runs these lines of shell."""
        folder = self.place / "source/gpulab/.venv/bin"
        folder.mkdir(parents=True)
        (folder / "gpulab").write_text(ENGINE.format(log=self.log, grade=grade))
        (folder / "gpulab").chmod(0o755)
        (folder / "python").symlink_to(sys.executable)

    def run(self, **settings: str) -> Any:
        """What Gradescope reads afterwards, or None where there is no such file; and keeps what was said last."""
        done = subprocess.run(
            [CI / "gradescope/run_autograder"],
            env={**os.environ, "AUTOGRADER": str(self.place), **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.said = done.stdout.splitlines()[-1]
        file = self.place / "results/results.json"
        assert done.returncode == (0 if file.exists() else 3)
        if not file.exists():
            return None
        text = file.read_text()
        assert of_gradescope(text) >= 0
        return json.loads(text)

    def words(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def autograder(tmp_path: Path) -> Autograder:
    return Autograder(tmp_path)


def no_score(why: str) -> str:
    return f"Nothing was graded: {why}. This is no failure of the learner's, and no score. Staff: run it again."


BROKE = no_score("the autograder or its machine failed, as said above")
NO_VERDICT = no_score("the grader ended without a verdict")
KILLED = no_score("the grader was killed, or took longer than 35m")
WRITE = """for word; do case $word in gradescope=*) echo '{0}' >"${{word#gradescope=}}" ;; esac; done"""


GRADED = {
    "score": 30,
    "execution_time": 1.0,
    "output": "",
    "output_format": "text",
    "test_output_format": "text",
    "test_name_format": "text",
    "visibility": "visible",
    "stdout_visibility": "hidden",
    "tests": [
        {
            "name": "n",
            "number": "1",
            "score": 30,
            "max_score": 30,
            "status": "passed",
            "output": "",
            "tags": [],
            "visibility": "visible",
            "extra_data": {},
        }
    ],
    "extra_data": {},
}


@pytest.mark.parametrize("status", [0, 1])
def test_gradescope_gets_what_was_graded(autograder: Autograder, status: int) -> None:
    autograder.with_gpulab(WRITE.format(json.dumps(GRADED)) + f"; exit {status}")
    assert autograder.run() == GRADED
    assert autograder.said == f"gpulab grade ended with status {status}"
    place = autograder.place
    assert autograder.words() == [
        "doctor",
        "grade",
        "03_vllm",
        "--submission",
        f"{place}/submission",
        "--out",
        f"{place}/results/runs",
        "--export",
        f"gradescope={place}/results/graded.json",
        "--no-variants",
    ]


def test_gradescope_is_told_whose_it_is_and_the_secret_draws_numbers(autograder: Autograder) -> None:
    autograder.with_gpulab("exit 0")
    (autograder.place / "submission_metadata.json").write_text(json.dumps(METADATA))
    (autograder.place / "source/course-secret").write_text("x" * 32)
    autograder.run()
    assert autograder.words()[-4:] == [
        "--student=alice@school.edu+bob@school.edu",
        "--submitted=2026-10-01T23:59:30.123456-07:00",
        "--course-secret-file",
        f"{autograder.place}/source/course-secret",
    ]
    gpulab.parser().parse_args(autograder.words()[1:])


@pytest.mark.parametrize(
    ("grade", "said"),
    [
        ("exit 3", BROKE),
        (WRITE.format(json.dumps(GRADED)) + "; exit 3", BROKE),
        ("exit 2", BROKE),
        ("exit 1", NO_VERDICT),
        ("kill -9 $$", KILLED),
        (WRITE.format(json.dumps(GRADED)) + "; kill -9 $$", KILLED),
    ],
)
def test_a_grading_that_broke_leaves_no_score(autograder: Autograder, grade: str, said: str) -> None:
    autograder.with_gpulab(grade)
    (autograder.place / "results").mkdir()
    for name in ("results.json", "graded.json"):
        (autograder.place / "results" / name).write_text(json.dumps(GRADED))
    assert autograder.run() is None
    assert autograder.said == said


def test_nor_does_one_that_takes_longer_than_it_may(autograder: Autograder) -> None:
    autograder.with_gpulab("exec tail -f /dev/null")
    assert autograder.run(LIMIT="0.05s") is None
    assert autograder.said == no_score("the grader was killed, or took longer than 0.05s")


def test_nor_does_an_autograder_that_lacks_its_parts(autograder: Autograder) -> None:
    assert autograder.run() is None
    assert autograder.said == BROKE
    (autograder.place / "source/lab").unlink()
    assert autograder.run() is None
    assert autograder.said == no_score("the zip has no file that names the lab")


def test_a_group_too_large_to_be_named_whole_has_an_id_of_its_own(autograder: Autograder) -> None:
    autograder.with_gpulab("exit 0")

    def named(members: int) -> str:
        users = [{"email": f"student{number:02}@school.edu"} for number in range(members)]
        (autograder.place / "submission_metadata.json").write_text(json.dumps(METADATA | {"users": users}))
        autograder.run()
        *_, student = [word for word in autograder.words() if word.startswith("--student=")]
        return student.removeprefix("--student=")

    addresses = "+".join(f"student{number:02}@school.edu" for number in range(12))
    digest = hashlib.sha256(addresses.encode()).hexdigest()[:32]
    assert named(12) == checked_id(named(12)) == f"{addresses[: LONGEST_ID - 33]}-{digest}"
    assert len(named(9)) < LONGEST_ID == len(named(12)) == len(named(13))
    assert len({named(9), named(12), named(13)}) == 3


def test_metadata_of_another_shape_is_graded_as_nobodys(autograder: Autograder) -> None:
    autograder.with_gpulab("exit 0")
    (autograder.place / "submission_metadata.json").write_text('{"users": null}')
    autograder.run()
    assert autograder.words()[-2:] == [f"gradescope={autograder.place}/results/graded.json", "--no-variants"]


@pytest.mark.slow
def test_the_real_gpulab_writes_results_for_gradescope(autograder: Autograder) -> None:
    (autograder.place / "source/gpulab").symlink_to(ROOT)
    (autograder.place / "submission/conftest.py").write_text("raise SystemExit")
    results = autograder.run()
    assert results["score"] == 0
    assert results["tests"][0]["status"] == "failed"
    assert "conftest.py in " in results["tests"][0]["output"]
