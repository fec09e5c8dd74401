"""The argument list that enters a container, and commands that end, fail or take too long."""

import asyncio

import pytest

from clusters.embedded.runtime.bubblewrap import Box
from clusters.embedded.runtime.errors import TimedOut
from clusters.embedded.runtime.execute import Output, entering, run
from clusters.embedded.runtime.spawn import find

ENTER = "nsenter --target=42 --user --preserve-credentials --mount --net --pid --uts --ipc --root"


def test_root_gives_back_what_the_container_does_not_hold() -> None:
    box = Box((), "h", 0, 0, ("CAP_CHOWN", "CAP_NET_RAW"), {"A": "1"}, (), cwd="/app")
    assert entering(box, 42, ["ls", "-l"], "nsenter") == [
        *ENTER.split(),
        *("/usr/bin/setpriv", "--no-new-privs", "--bounding-set=-all,+chown,+net_raw"),
        *("/usr/bin/env", "-i", "--chdir=/app", "--", "A=1", "ls", "-l"),
    ]


def test_another_user_has_nothing_to_give_back() -> None:
    box = Box((), "h", 7, 7, (), {}, ())
    words = f"{ENTER} /usr/bin/setpriv --no-new-privs /usr/bin/env -i --chdir=/ -- true"
    assert entering(box, 42, ["true"], "nsenter") == words.split()


def test_output_and_status_are_kept() -> None:
    done = asyncio.run(run([find("sh"), "-c", "echo out; echo err >&2; exit 3"], 5, "sh"))
    assert done == Output(b"out\n", b"err\n", 3)


def test_the_environment_of_the_runtime_stays_outside() -> None:
    assert asyncio.run(run([find("env")], 5, "env")).stdout == b""


def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(TimedOut) as caught:
        asyncio.run(run([find("sleep"), "1000"], 0.02, "sleep 1000"))
    assert str(caught.value) == "command 'sleep 1000' in the container was not done after 0.02 s"
