"""One container with the real bubblewrap, without a pod around it."""

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusters.embedded.runtime import base
from clusters.embedded.runtime.bubblewrap import Box
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.images import Image
from clusters.embedded.runtime.launch import Launcher, Rights
from clusters.embedded.runtime.namespaces import Namespaces
from clusters.embedded.runtime.plan import Plan
from clusters.embedded.runtime.spawn import find
from clusters.embedded.runtime.stage import Stage

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("machine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts outside of a node's namespaces"),
]
IMAGE = Image("busybox", "sha256:0", (), (), {}, (), 1)


@pytest.fixture
def launcher(programs: Path) -> Launcher:
    return Launcher(programs / "bin" / "launch")


def built(place: Path) -> Path:
    base.make(place)
    return place


def container(folder: Path, command: str, launcher: Launcher) -> Container:
    box = Box(Rights(), {"PATH": "/usr/bin:/bin"}, (), mapped=True)
    plan = Plan(box, ("sh", "-c", command), 15, {})
    (folder / "stage").mkdir()
    programs = {name: find(name) for name in ("bwrap", "nice", "nsenter")}
    return Container(
        "c",
        plan,
        config=SimpleNamespace(stdin=False, stdin_once=False, tty=False),
        image=IMAGE,
        pod="p",
        namespaces=Namespaces({"user": os.open("/proc/self/ns/user", os.O_RDONLY)}),
        launcher=launcher,
        base=partial(built, folder / "base"),
        stage=Stage(folder / "stage"),
        folder=folder / "own",
        log=folder / "log",
        group=None,
        programs=programs,
        now=time.time_ns,
    )


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path, launcher: Launcher) -> None:
    async def scenario() -> Container:
        made = container(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.01; done", launcher)
        await made.start()
        while not (tmp_path / "log").read_text():
            await asyncio.sleep(0.001)
        await made.stop(0.05)
        return made

    made = asyncio.run(scenario())
    assert (made.state, made.exit_code, made.reason) == (State.EXITED, 137, "Error")


def test_a_container_starts_once_and_can_be_forgotten(tmp_path: Path, launcher: Launcher) -> None:
    async def scenario() -> Container:
        made = container(tmp_path, "exec sleep 1000", launcher)
        await made.start()
        with pytest.raises(Refused) as caught:
            await made.start()
        assert str(caught.value) == "container 'c' was already started"
        await made.kill()
        await made.kill()
        await made.forget()
        return made

    made = asyncio.run(scenario())
    assert (made.state, made.init, (tmp_path / "own").exists()) == (State.EXITED, None, False)


def test_one_that_never_started_stops_at_once(tmp_path: Path, launcher: Launcher) -> None:
    made = container(tmp_path, "true", launcher)
    asyncio.run(made.stop(10))
    assert (made.state, made.started, made.exit_code) == (State.CREATED, None, None)
    with pytest.raises(Refused, match=r"^container 'c' does not run, so its log cannot be reopened$"):
        made.reopen_log()
