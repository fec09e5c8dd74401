"""The argument list that enters a container, and commands that end, fail or take too long."""

import asyncio
import os
from pathlib import Path

import pytest

from clusters.embedded.runtime.bubblewrap import Box
from clusters.embedded.runtime.errors import TimedOut
from clusters.embedded.runtime.execute import Output, entering, run
from clusters.embedded.runtime.launch import Launcher, Rights
from clusters.embedded.runtime.spawn import find

ENTER = "nsenter --target=42 --user --preserve-credentials --mount --net --pid --uts --ipc --root"


def test_a_command_enters_with_the_rights_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "launch").write_text("the program")
    launcher = Launcher(tmp_path / "launch")
    box = Box(Rights(7, 8, (9,), ("CAP_CHOWN",), b"code"), {"A": "1"}, (), cwd="/app")
    words = entering(box, 42, ["ls", "-l"], "nsenter", launcher)
    rights = '{"uid": 7, "gid": 8, "groups": [9], "capabilities": 1, "filter": "Y29kZQ==", '
    settings = rights + '"directory": "/app", "variables": 1, "terminal": false, "report": 0}'
    opened = f"/proc/{os.getpid()}/fd/{launcher.descriptor}"
    assert words == [
        *("/bin/sh", "-c", 'exec 9<"$0" && exec "$@"', opened),
        *ENTER.split(),
        *("--", "/proc/self/fd/9", settings, "A=1", "ls", "-l"),
    ]
    assert Path(opened).read_text() == "the program"


def test_output_and_status_are_kept() -> None:
    done = asyncio.run(run([find("sh"), "-c", "echo out; echo err >&2; exit 3"], 5, "sh"))
    assert done == Output(b"out\n", b"err\n", 3)


def test_the_environment_of_the_runtime_stays_outside() -> None:
    assert asyncio.run(run([find("env")], 5, "env")).stdout == b""


def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(TimedOut) as caught:
        asyncio.run(run([find("sleep"), "1000"], 0.02, "sleep 1000"))
    assert str(caught.value) == "command 'sleep 1000' in the container was not done after 0.02 s"
