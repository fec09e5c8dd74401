"""Where a cluster's cgroups are made and removed, in folders that stand in for the kernel's."""

from pathlib import Path

import pytest

from clusters.api import MachineError, SpecError
from clusters.embedded import cgroups
from clusters.embedded.cgroups import Limits
from clusters.wait import WaitTimeout

V1_OWN = """9:name=systemd:/
8:pids:/
4:memory:/service/a
2:cpu,cpuacct:/
0::/
"""


def machine(root: Path, cgroup: str, mounts: list[tuple[str, str, str, str]]) -> Path:
    """A machine's root with this /proc/self/cgroup, and mounts by point, root, kind and options."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    lines = [
        f"30 24 0:26 {top} {point} rw,relatime shared:9 - {kind} cgroup rw{more}" for point, top, kind, more in mounts
    ]
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return root


def v1(root: Path) -> Path:
    mounts = [(f"/sys/fs/cgroup/{name}", "/", "cgroup", f",{name}") for name in ("memory", "cpu,cpuacct", "pids")]
    for folder in ("memory/service/a", "cpu,cpuacct", "pids"):
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True)
        (root / "sys/fs/cgroup" / folder / "cgroup.procs").touch()
    return machine(root, V1_OWN, mounts)


def v2(root: Path, *, top: str, own: str) -> Path:
    """A machine with v2, where the cgroup above this process's own may give its children the controllers in `top`."""
    scope = root / "sys/fs/cgroup/user/app"
    (scope / "shell").mkdir(parents=True)
    for folder, given in ((scope, top), (scope / "shell", own)):
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.controllers").write_text("cpu memory pids")
        (folder / "cgroup.subtree_control").write_text(given)
    (scope / "shell/cgroup.controllers").write_text("")
    return machine(root, "0::/user/app/shell\n", [("/sys/fs/cgroup", "/", "cgroup2", "")])


def test_of_v1_each_controller_has_a_folder_below_this_process(tmp_path: Path) -> None:
    found = cgroups.choose("any", "main", v1(tmp_path))
    assert found.kind == "cgroup-v1"
    parents = {name: str(Path(folder).parent.relative_to(tmp_path)) for name, folder in found.folders.items()}
    assert parents == {
        "memory": "sys/fs/cgroup/memory/service/a",
        "cpu": "sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "sys/fs/cgroup/cpu,cpuacct",
        "pids": "sys/fs/cgroup/pids",
    }
    assert {Path(folder).name.rpartition("-")[0] for folder in found.folders.values()} == {"gpulab-main"}


def test_a_mount_of_a_part_of_a_hierarchy_is_followed(tmp_path: Path) -> None:
    v1(tmp_path)
    info = tmp_path / "proc/self/mountinfo"
    info.write_text(info.read_text().replace(" / /sys/fs/cgroup/memory ", " /service /sys/fs/cgroup/memory "))
    (tmp_path / "sys/fs/cgroup/memory/a").mkdir()
    (tmp_path / "sys/fs/cgroup/memory/a/cgroup.procs").touch()
    found = cgroups.choose("cgroup-v1", "main", tmp_path)
    assert Path(found.folders["memory"]).parent == tmp_path / "sys/fs/cgroup/memory/a"


def test_of_v2_the_nearest_folder_that_gives_its_children_all_controllers_is_taken(tmp_path: Path) -> None:
    found = cgroups.choose("any", "main", v2(tmp_path, top="cpu memory pids", own=""))
    assert found.kind == "cgroup-v2"
    assert {Path(folder).parent for folder in found.folders.values()} == {tmp_path / "sys/fs/cgroup/user/app"}
    assert set(found.folders) == {"memory", "cpu", "pids"}


def test_of_v2_controllers_that_are_there_are_given_to_the_children(tmp_path: Path) -> None:
    found = cgroups.choose("cgroup-v2", "main", v2(tmp_path, top="", own=""))
    control = tmp_path / "sys/fs/cgroup/user/app/cgroup.subtree_control"
    assert control.read_text() == "+memory +cpu +pids"
    Path(found.folders["cpu"]).mkdir()
    cgroups.make(found)
    assert (Path(found.folders["cpu"]) / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_without_cgroups_processes_are_watched(tmp_path: Path) -> None:
    bare = machine(tmp_path, "0::/\n", [])
    assert cgroups.choose("any", "main", bare) == Limits("watch", {})
    assert cgroups.choose("watch", "main", v1(tmp_path / "other")) == Limits("watch", {})
    for kind, names in (("cgroup-v1", "memory, cpu, cpuacct, pids"), ("cgroup-v2", "memory, cpu, pids")):
        with pytest.raises(SpecError) as caught:
            cgroups.choose(kind, "main", bare)  # type: ignore[arg-type] # from a literal tuple
        assert str(caught.value) == (
            f"cluster.yaml asks for limits: {kind}, but this machine gives no such cgroups with {names} to write; "
            "leave it out, or say watch"
        )


def test_one_controller_too_few_is_none(tmp_path: Path) -> None:
    (v1(tmp_path) / "sys/fs/cgroup/pids/cgroup.procs").unlink()
    assert cgroups.choose("any", "main", tmp_path) == Limits("watch", {})


def test_what_is_made_is_written_down_and_removed_with_all_below(tmp_path: Path) -> None:
    limits = Limits("cgroup-v1", {"memory": str(tmp_path / "memory"), "cpu": str(tmp_path / "cpu")})
    cgroups.store(limits, tmp_path)
    assert cgroups.stored(tmp_path) == limits
    cgroups.make(limits)
    (tmp_path / "memory/pod/container").mkdir(parents=True)
    cgroups.renew(limits)
    assert list((tmp_path / "memory").iterdir()) == []
    (tmp_path / "memory/pod/container").mkdir(parents=True)
    for _ in range(2):
        cgroups.remove(limits)
        assert not [name for name in ("memory", "cpu") if (tmp_path / name).exists()]
    assert cgroups.stored(tmp_path / "no cluster") == Limits()


def test_a_folder_that_stays_is_told(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "as if a process were left").touch()
    with pytest.raises(WaitTimeout) as caught:
        cgroups.remove(Limits("cgroup-v1", {"memory": str(tmp_path / "memory")}), seconds=0)
    assert f"the processes in the cgroup {tmp_path}/memory to end" in str(caught.value)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        cgroups.make(Limits("cgroup-v1", {"memory": str(tmp_path / "none" / "memory")}))
    assert str(caught.value) == (
        f"the cgroup {tmp_path}/none/memory cannot be made: No such file or directory; say `limits: watch` in "
        "cluster.yaml to do without"
    )


def test_each_node_has_a_folder_of_its_own() -> None:
    assert cgroups.below(Limits("cgroup-v1", {"cpu": "/c/x"}), "gpu-1") == Limits("cgroup-v1", {"cpu": "/c/x/gpu-1"})
