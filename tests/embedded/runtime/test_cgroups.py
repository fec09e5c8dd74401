"""The cgroup of a container, in folders that stand in for the kernel's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusters.embedded.cgroups import Limits
from clusters.embedded.runtime import cgroups
from clusters.embedded.runtime.cgroups import Group
from clusters.embedded.runtime.errors import Refused


def resources(**fields: Any) -> Any:
    defaults = {"cpu_period": 0, "cpu_quota": 0, "cpu_shares": 0, "memory_limit_in_bytes": 0, "unified": {}}
    return SimpleNamespace(**{**defaults, **fields})


def group(folder: Path, kind: Any = "cgroup-v1") -> Group:
    names = ("memory", "cpu", "cpuacct", "pids")
    folders = {name: str(folder / (name if kind == "cgroup-v1" else "one")) for name in names}
    for each in folders.values():
        Path(each).mkdir(exist_ok=True)
    return Group(Limits(kind, folders), "uid", "id")


def test_limits_of_v1_are_written_in_an_order_that_the_kernel_takes() -> None:
    asked = resources(cpu_period=100_000, cpu_quota=50_000, cpu_shares=512, memory_limit_in_bytes=1 << 20)
    assert cgroups.settings("cgroup-v1", asked) == [
        ("memory.memsw.limit_in_bytes", "-1"),
        ("memory.limit_in_bytes", "1048576"),
        ("memory.memsw.limit_in_bytes", "1048576"),
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.shares", "512"),
    ]
    assert dict(cgroups.settings("cgroup-v1", resources())) == {
        "memory.memsw.limit_in_bytes": "-1",
        "memory.limit_in_bytes": "-1",
        "cpu.cfs_quota_us": "-1",
        "cpu.cfs_period_us": "100000",
        "cpu.shares": "2",
    }


def test_limits_of_v2() -> None:
    asked = resources(cpu_quota=50_000, cpu_shares=1024, memory_limit_in_bytes=5, unified={"memory.oom.group": "1"})
    assert cgroups.settings("cgroup-v2", asked) == [
        ("memory.max", "5"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "39"),
    ]
    none = dict(cgroups.settings("cgroup-v2", resources()))
    assert (none["memory.max"], none["cpu.max"], none["memory.oom.group"]) == ("max", "max 100000", "0")


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (0, 1), (1024, 39), (262_144, 10_000), (1 << 30, 10_000)])
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    assert cgroups.weight(shares) == weight


def test_a_group_is_made_below_its_pods_which_bounds_the_number_of_processes(tmp_path: Path) -> None:
    made = group(tmp_path)
    assert (tmp_path / "pids/poduid/pids.max").read_text() == "1024"
    assert made.entrances == [
        tmp_path / name / "poduid/id/cgroup.procs" for name in ("memory", "cpu", "cpuacct", "pids")
    ]
    assert made.places[0] == (str(tmp_path / "memory/poduid/id"), "/sys/fs/cgroup/memory")
    made.limit(resources(memory_limit_in_bytes=7))
    assert (tmp_path / "memory/poduid/id/memory.limit_in_bytes").read_text() == "7"


def test_of_v2_a_container_sees_its_one_folder(tmp_path: Path) -> None:
    made = group(tmp_path, "cgroup-v2")
    assert made.entrances == [tmp_path / "one/poduid/id/cgroup.procs"]
    assert made.places == [(str(tmp_path / "one/poduid/id"), "/sys/fs/cgroup")]
    assert (tmp_path / "one/poduid/cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_an_empty_group_goes_with_the_last_of_its_pod(tmp_path: Path) -> None:
    made = group(tmp_path)
    (tmp_path / "pids/poduid/pids.max").unlink()  # the kernel's files are no hindrance
    (tmp_path / "cpu/poduid/other").mkdir()
    made.remove()
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["poduid"]
    made.remove()


def test_a_kill_for_want_of_memory_is_seen(tmp_path: Path) -> None:
    made = group(tmp_path)
    assert not made.out_of_memory()
    told = tmp_path / "memory/poduid/id/memory.oom_control"
    told.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not made.out_of_memory()
    told.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert made.out_of_memory()
    other = group(tmp_path, "cgroup-v2")
    (tmp_path / "one/poduid/id/memory.events").write_text("low 0\noom 1\noom_kill 1\noom_group_kill 0\n")
    assert other.out_of_memory()


def test_a_limit_that_the_kernel_refuses_is_told(tmp_path: Path) -> None:
    made = group(tmp_path)
    (tmp_path / "memory/poduid/id/memory.limit_in_bytes").mkdir()
    with pytest.raises(Refused) as caught:
        made.limit(resources(memory_limit_in_bytes=7))
    assert str(caught.value) == (
        "the limit memory.limit_in_bytes of a container cannot be set to 7: Is a directory; a limit of memory must be "
        "above what is in use"
    )


def test_a_group_that_is_gone_has_used_nothing(tmp_path: Path) -> None:
    assert group(tmp_path).usage() is None


def test_a_process_joins_before_it_becomes_its_program() -> None:
    assert cgroups.joining([], 0) == ()
    assert cgroups.joining([Path("/a b/cgroup.procs")], 1000) == (
        "/bin/sh",
        "-c",
        "echo 0 > '/a b/cgroup.procs' || exit 126; { echo 1000 > /proc/self/oom_score_adj; } 2> /dev/null; exec \"$@\"",
        "sh",
    )
