"""`gpulab check`, `pack` and `keygen`, as they are typed: what they print, and their exit statuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpulab
from graders import signing
from tests.graders.stored_run import NAME, graded


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = gpulab.main(words)
    found = capsys.readouterr()
    return status, found.out, found.err


def size(place: Path) -> str:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


def test_a_run_is_made_signed_packed_and_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "keygen", "--out", "key")
    fingerprint = signing.fingerprint(signing.public_key(here / "key.pub"))
    assert (status, out) == (
        0,
        f"{fingerprint}\nPrivate key, to be kept where no learner reads: key\nPublic key: key.pub\n"
        "Sign: gpulab grade LAB --sign key\nVerify: gpulab check RESULTS --key key.pub\n",
    )
    key = signing.private_key(here / "key")
    folder = graded(here, lambda manifest: signing.sign(key, manifest).encode())
    place = folder.relative_to(here)
    pack = f"01_tiny-{NAME}.gpulab.zip"
    status, out, _ = said(capsys, "pack", str(place))
    assert (status, out) == (0, f"{pack}: 9 files, {size(here / pack)}; gpulab check {pack} says whether it holds\n")
    holds = f"holds; 100/100 passed; 9 files, {size(folder)}; signed by {fingerprint}\n"
    assert said(capsys, "check", ".", "--key", "key.pub") == (0, f"{pack}: {holds}{place}: {holds}", "")
    assert said(capsys, "pack", str(place)) == (2, "", f"gpulab: {pack} is there already; name another file\n")


def test_one_run_that_does_not_hold_is_exit_status_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = graded(here)
    shutil.copytree(folder, here / "results/01_tiny/other")
    (here / "results/01_tiny/other/verdict.json").unlink()
    assert said(capsys, "check", "results") == (
        1,
        f"results/01_tiny/{NAME}: holds; 100/100 passed; 8 files, {size(folder)}; not signed\n"
        "results/01_tiny/other: does not hold, 2 findings\n"
        "  missing: verdict.json is missing\n"
        "  unreadable: results/01_tiny/other holds no file 'verdict.json'; its run did not keep one, or it was taken "
        "away\n",
        "",
    )


def test_a_forged_verdict_steers_no_terminal_and_gives_no_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = graded(here) / "verdict.json"
    verdict.write_text(verdict.read_text().replace('"evidence/first.log"', '"\\u001b[2J\\n::add-mask::x"'))
    status, out, _ = said(capsys, "check", "results")
    assert status == 1
    assert "the check 'first' rests on \ufffd[2J\n\ufffd:add-mask::x, which is missing\n" in out
    assert "\x1b" not in out


def test_wrong_use_is_exit_status_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graded(here)
    for words, error in (
        (
            ["check", "none"],
            "none is not there; name a run's folder, a packed run, or a folder of runs, as results/",
        ),
        (
            ["check", "results", "--key", "none"],
            "the public key none cannot be read: No such file or directory; name its file",
        ),
        (["pack", "results"], f"{here}/results is no run's folder; name one, as in results/"),
        (["keygen", "--out", "results"], "results is there already; a key is never overwritten, name another file"),
    ):
        assert said(capsys, *words) == (2, "", f"gpulab: {error}\n")


@pytest.mark.slow
def test_a_key_that_cannot_be_read_is_said_before_anything_is_graded(here: Path) -> None:
    program = Path(sys.executable).with_name("gpulab")
    argv = [str(program), "grade", "03_vllm", f"--out={here}", f"--sign={here}/none"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        f"ERROR: --sign: the private key {here}/none cannot be read: No such file or directory; name its file"
    )
    assert list(here.iterdir()) == []
