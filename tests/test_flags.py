"""The flags that `gpulab grade` and pytest share: both take them, one hands them on, and wrong ones are said alike."""

import argparse
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("words", [(), ("--hints=3",)])
def test_what_gpulab_was_given_reaches_pytest(words: tuple[str, ...]) -> None:
    options = parsed(*words)
    assert parsed(*words_of(options)) == options


@pytest.mark.parametrize("asked", ["0", "4", "all", "1.5", "-1"])
def test_other_numbers_of_tiers_are_refused_before_anything_starts(
    asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        gpulab.main(["grade", "03_vllm", f"--hints={asked}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"gpulab grade: error: {WRONG_TIERS.format(asked=asked)}"


def test_pytest_says_the_same() -> None:
    words = [sys.executable, "-m", "pytest", "labs/03_vllm", "-p", "no:cacheprovider", "--hints=4"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert WRONG_TIERS.format(asked="4") in done.stderr
