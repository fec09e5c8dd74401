"""The flags that `gpulab grade` and pytest share: both take them, one hands them on, and wrong ones are said alike."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpulab
from graders.flags import add_flags, words_of

ROOT = Path(__file__).resolve().parents[1]
WRONG_TIERS = (
    "argument --hints: asked for {asked!r} tiers of hints; ask for 1 (a question), 2 (where to look) or 3 (the answer)"
)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument)
    return parser.parse_args(words)


EVERY_FLAG = (
    "--hints=3",
    "--keep",
    "--student=-42 a",
    "--course-secret-file=a file",
    "--variant=alice.json",
    "--no-variants",
    "--attempts=course.toml",
    "--submitted=2026-10-01T23:59:00+02:00",
)


@pytest.mark.parametrize("words", [(), EVERY_FLAG], ids=["none", "all"])
def test_what_gpulab_was_given_reaches_pytest(words: tuple[str, ...]) -> None:
    options = parsed(*words)
    assert parsed(*words_of(options)) == options


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], []),
        (["--cluster=embedded", "--hints=1", "--keep", f"--out={ROOT / 'results'}"], []),
        (
            ["--name=course", "--submission=of alice", "--images=a.toml", "--images=b.toml", "--sign=key", "--hints=2"],
            ["--name=course", "--submission=of alice", "--images=a.toml", "--images=b.toml", "--sign=key", "--hints=2"],
        ),
        (["--out=elsewhere", "--export=junit=x.xml", "--report=x.html"], ["--out=elsewhere"]),
    ],
    ids=["none", "usual", "same", "once"],
)
def test_a_run_knows_the_flags_that_grade_the_same_again(
    pytestconfig: pytest.Config, words: list[str], kept: list[str]
) -> None:
    wiring: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    parser = pytest.Parser(_ispytest=True)
    wiring.pytest_addoption(parser)
    assert wiring._again(parser.parse(words)) == kept


def test_every_flag_is_tried() -> None:
    flags: list[str] = []
    add_flags(lambda name, **_: flags.append(name))
    assert [word.partition("=")[0] for word in EVERY_FLAG] == flags


@pytest.mark.parametrize("asked", ["0", "4", "all", "1.5", "-1"])
def test_other_numbers_of_tiers_are_refused_before_anything_starts(
    asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        gpulab.main(["grade", "03_vllm", f"--hints={asked}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"gpulab grade: error: {WRONG_TIERS.format(asked=asked)}"


def test_a_student_without_a_proper_id_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpulab.main(["grade", "03_vllm", "--student= "])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "gpulab grade: error: argument --student: ' ' is no id of a student: it has to be printable, without a space "
        "at either end, and of at most 200 characters; give such a one"
    )


@pytest.mark.parametrize("time", ["yesterday", "2026-10-01T23:59", ""])
def test_a_time_without_an_offset_is_none(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpulab.main(["grade", "03_vllm", f"--submitted={time}"])
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gpulab grade: error: argument --submitted: {time!r} is no moment in time; give date, time and offset, as in "
        "2026-10-01T23:59+02:00"
    )


@pytest.mark.slow
def test_what_pytest_calls_wrong_use_is_wrong_use_of_gpulab(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("gpulab")), "grade", "03_vllm", "--export=lti=x", f"--out={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: --export: 'lti=x' is not FORMAT=FILE; the formats are: ")


@pytest.mark.slow
def test_pytest_says_the_same() -> None:
    words = [sys.executable, "-m", "pytest", "labs/03_vllm", "-p", "no:cacheprovider", "--hints=4"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert WRONG_TIERS.format(asked="4") in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["labs/03_vllm", "labs/03_vllm/test_vllm.py::test_streams", "."])
def test_a_lab_is_not_graded_in_several_processes(asked: str) -> None:
    words = [sys.executable, "-m", "pytest", asked, "-p", "no:cacheprovider", "--numprocesses=2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        4,
        "ERROR: asked to grade in several processes (--numprocesses), but the checks of a lab are measured one after "
        "the other, on one cluster; leave the flag out\n\n",
    )
