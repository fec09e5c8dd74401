"""The mounts among which containers are put together."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from clusters.embedded.runtime import mounts
from clusters.embedded.runtime.stage import Stage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts outside of a node's namespaces")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "stage").mkdir()
    return Stage(tmp_path / "stage")


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A folder with a file, and with a mount made after the stage: what is in it is not on the disk."""
    place = tmp_path / "pod"
    (place / "token").mkdir(parents=True)
    (place / "hosts").write_text("127.0.0.1 localhost\n")
    return place


def points(process: str = "self") -> str:
    """The list of mounts of this thread, or of another."""
    return Path(f"/proc/{process}/mountinfo").read_text()


def test_what_is_mounted_later_is_there_only_when_shown(stage: Stage, pod: Path) -> None:
    def seen(at: Mapping[str, str]) -> tuple[list[str], str]:
        return os.listdir(at[str(pod)] + "/token"), Path(at[str(pod / "hosts")]).read_text()  # noqa: PTH208 - as a path

    async def scenario() -> None:
        mounts.tmpfs(pod / "token", 4096)
        try:
            (pod / "token" / "ca.crt").touch()
            assert str(pod) not in await stage.do(points, "thread-self")
            before = points()
            async with stage.showing([str(pod), str(pod / "hosts"), str(pod), str(pod / "missing")]) as at:
                assert list(at) == [str(pod), str(pod / "hosts")]
                assert await stage.do(seen, at) == (["ca.crt"], "127.0.0.1 localhost\n")
                assert points() == before
        finally:
            mounts.remove(pod / "token")

    asyncio.run(scenario())


def test_nothing_is_left_of_what_was_shown(stage: Stage, pod: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        before = await stage.do(points, "thread-self")
        opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
        with pytest.raises(RuntimeError, match=r"^the start failed$"):
            async with stage.showing([str(pod)]):
                raise RuntimeError("the start failed")
        assert await stage.do(points, "thread-self") == before
        assert await stage.do(os.listdir, tmp_path / "stage") == []
        assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208 - a count

    asyncio.run(scenario())


def test_a_program_is_started_on_it_by_nsenter(stage: Stage) -> None:
    name, _, path = stage.entering.partition("=")
    assert name == "--mount"
    assert Path(path).readlink() != Path("/proc/self/ns/mnt").readlink()
