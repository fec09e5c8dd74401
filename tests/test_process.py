"""Programs that are run, kept and stopped."""

import os
import sys
from pathlib import Path

import pytest

from clusters.api import MachineError
from clusters.process import Child, CommandFailed, kill_for_certain, run, start_time, stream, system_path, tail
from clusters.wait import until
from tests.patience import PATIENCE


def test_run_returns_what_a_program_prints() -> None:
    assert run(["cat"], stdin="both\n") == "both\n"


def test_a_failing_program_is_told_with_its_words() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo no such thing >&2; exit 4"])
    assert str(caught.value) == "sh -c echo no such thing >&2; exit 4 ended with status 4: no such thing"
    assert caught.value.status == 4


def test_a_silent_failure_is_told_as_such() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["false"])
    assert str(caught.value) == "false ended with status 1: it printed nothing"


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sleep", "60"], seconds=0.01)
    assert str(caught.value) == "sleep 60 ended with status 124: not done after 0.01 s"


@pytest.mark.parametrize(
    "start", [lambda: run(["no-such-program"]), lambda: Child(["no-such-program"], log=Path(os.devnull))]
)
def test_a_missing_program_is_named(start: object) -> None:
    with pytest.raises(MachineError) as caught:
        start()  # type: ignore[operator]  # pytest's parameters have no types
    message = "the program 'no-such-program' is not on this machine; `gpulab doctor` says how to get it"
    assert str(caught.value) == message


def test_stream_gives_every_line_and_fails_with_the_last_ones() -> None:
    lines: list[str] = []
    with pytest.raises(CommandFailed) as caught:
        stream(["sh", "-c", "echo one; echo two >&2; exit 3"], lines.append)
    assert lines == ["one", "two"]
    assert caught.value.output == "one\ntwo"


def test_stream_ends_its_program_when_the_reader_fails() -> None:
    pids: list[int] = []

    def read(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", "echo $$; exec sleep 60"], read)
    assert start_time(pids[0]) is None


def test_a_child_that_ignores_sigterm_is_killed_with_its_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.fork(), flush=True); time.sleep(1000)"
    child = Child([sys.executable, "-c", code], log=log)
    while log.read_text().count("\n") < 2:  # one line of the parent, one of its own child
        assert child.status() is None
    child.stop(grace=0)
    assert child.status() == -9
    own_child = next(int(pid) for pid in log.read_text().split() if pid != "0")
    until(lambda: start_time(own_child), lambda born: born is None, what="the child's child to end", seconds=PATIENCE)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from clusters.process import Child;"
        "child = Child(['sleep', '60'], log=pathlib.Path(os.devnull));"
        "print(child.pid); sys.stdout.flush(); os._exit(0)"
    )
    pid = int(run([sys.executable, "-c", code]))
    kill_for_certain(pid)  # waits; the kernel has sent its signal already
    assert start_time(pid) is None


def test_start_time_tells_one_process_from_the_next() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 1) is None


def test_tail_has_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == "(x.log: nothing was written)"
    log.write_text("1\n2\n3\n")
    assert tail(log, 2) == "2\n3"


def test_tail_has_the_reason_of_a_go_programs_crash_and_not_its_stacks(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    words = "runtime: failed to create new OS thread (have 2 already; errno=11)\nfatal error: newosproc"
    log.write_text(f"I1121 fine\n{words}\n\nruntime stack:\nruntime.throw()\n")
    assert tail(log) == words
    assert tail(log, 1) == words.splitlines()[0]


def test_system_programs_are_found_by_ordinary_users() -> None:
    assert system_path({"PATH": "/usr/bin:/sbin"}) == "/usr/bin:/sbin:/usr/sbin"
