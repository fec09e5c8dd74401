"""Users, capabilities, filters and what containers of a pod share, in real containers."""

import os
from functools import partial
from typing import Any

import grpc
import pytest

from clusters.embedded import identities
from clusters.wait import until
from tests.patience import PATIENCE

Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest
STATUS = "grep -E '^(Uid|Gid|Groups|Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' '"
DEFAULT_FILTER = {"profile_type": 0}
REAL = identities.kind(root=os.geteuid() == 0) == "real"

pytestmark = pytest.mark.cluster
real_users = pytest.mark.skipif(not REAL, reason="only one id of this machine can be used in a container")


def exec_(node: Node, container: str, script: str) -> str:
    request = node.api.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script])
    return str(node.runtime.ExecSync(request).stdout.decode())


def both(node: Node, name: str, script: str, **security: object) -> list[str]:
    """What a script prints in a container: as its program, and run in it later; they must be the same."""
    pod = node.pod(name)
    fields: dict[str, object] = {"linux": {"security_context": security}}
    program = str(node.run(pod, ["sh", "-c", script], **fields))
    later = exec_(node, node.start(pod, ["sleep", "1000"], name="later", **fields), script)
    assert program == later
    return program.splitlines()


@real_users
def test_users_and_groups_are_real_and_the_same_for_what_is_run_later(node: Node) -> None:
    shown = both(
        node,
        "users",
        STATUS,
        run_as_user={"value": 1000},
        run_as_group={"value": 3000},
        supplemental_groups=[4000, 5000],
        seccomp=DEFAULT_FILTER,
    )
    assert shown == [
        "Uid: 1000 1000 1000 1000",
        "Gid: 3000 3000 3000 3000",
        "Groups: 4000 5000 ",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 00000000a80425fb",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ]


@real_users
def test_files_belong_to_who_made_them(node: Node) -> None:
    volume = node.folder / "kubelet" / "pods" / "uid-owners" / "data"
    volume.mkdir(parents=True)
    pod = node.pod("owners")

    def runs(script: str, name: str, **security: object) -> str:
        mounts = [{"container_path": "/data", "host_path": str(volume)}]
        return str(node.run(pod, ["sh", "-c", script], name=name, mounts=mounts, linux={"security_context": security}))

    assert runs("chown 0:4000 /data && chmod 2770 /data", "first") == ""
    assert runs("touch /data/made", "second", run_as_user={"value": 1000}, supplemental_groups=[4000]) == ""
    assert runs("stat -c '%u %g' /data/made", "third") == "1000 4000\n"
    refused = "ls: cannot open directory '/data': Permission denied\n"
    assert runs("ls /data", "fourth", run_as_user={"value": 1001}) == refused


def test_a_filter_is_in_force_for_the_program_and_what_is_run_later(node: Node) -> None:
    program = "grep '^Seccomp:' /proc/1/status; unshare --mount true 2>&1"
    assert both(node, "filtered", program, seccomp=DEFAULT_FILTER) == [
        "Seccomp:\t2",  # process 1, too: else it could be traced to do what others may not
        "unshare: unshare failed: Operation not permitted",
    ]
    assert both(node, "unfiltered", "grep ^Seccomp: /proc/self/status", seccomp={"profile_type": 1}) == ["Seccomp:\t0"]


@real_users
def test_a_privileged_container_has_power_over_its_pod_only(node: Node) -> None:
    script = """
    grep CapEff /proc/self/status; ip link set lo down && echo network; hostname other && hostname
    unshare --mount sh -c 'mount -t tmpfs x /mnt && echo own mounts; umount /proc/sys; mount -t proc x /mnt' 2>&1
    umount /proc/sys 2>&1; mount -o remount,rw /proc/sys 2>&1 | head -1
    mknod /tmp/disk b 8 0 2>&1; unshare --user true 2>&1; ls /dev | tr '\\n' ' '
    """
    security = {"privileged": True}
    shown = node.run(node.pod("privileged"), ["sh", "-c", script], linux={"security_context": security}).splitlines()
    assert shown == [
        "CapEff:\t000001ffffffffff",
        "network",
        "other",
        "own mounts",
        "umount: /proc/sys: not mounted.",
        "mount: /mnt: permission denied.",
        "       dmesg(1) may have more information after failed mount system call.",
        "umount: /proc/sys: must be superuser to unmount.",
        "mount: /proc/sys: permission denied.",
        "mknod: /tmp/disk: Operation not permitted",
        "unshare: unshare failed: No space left on device",
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
    ]


@real_users
@pytest.mark.parametrize("path", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"])
def test_what_acts_on_the_machine_is_read_only_for_privileged_containers_too(node: Node, path: str) -> None:
    # Opened for writing, never written: a failure of this test must not change the machine.
    script = f"import os\ntry: os.open({path!r}, os.O_WRONLY)\nexcept OSError as error: print(error.strerror)"
    pod = node.pod(f"guarded-{path.split('/')[2]}-{len(path)}")
    command = ["/usr/bin/python3", "-c", script]
    shown = node.run(pod, command, linux={"security_context": {"privileged": True}})
    assert shown.strip() in {"Read-only file system", "Permission denied", "No such file or directory"}


def test_containers_share_memory_message_queues_and_the_host_name(node: Node) -> None:
    pod = node.pod("shares")
    node.run(pod, ["sh", "-c", "echo here > /dev/shm/x; ipcmk -S 1"], name="one")
    script = "cat /dev/shm/x; ipcs -s | grep -c 0x; hostname; df --output=size /dev/shm | tail -1"
    script += "; readlink /proc/self/ns/ipc"
    shown = node.run(pod, ["sh", "-c", script], name="two").split()
    assert shown[:4] == ["here", "1", "shares", "65536"]
    other = node.run(node.pod("apart"), ["sh", "-c", "ls /dev/shm; readlink /proc/self/ns/ipc"]).split()
    assert other != shown[4:]
    assert len(other) == 1


@real_users
def test_containers_of_a_pod_that_asks_share_their_processes(node: Node) -> None:
    pod = node.pod("processes", linux={"security_context": {"namespace_options": {"pid": node.api.POD}}})
    script = "trap 'echo told; exit 3' TERM; (sleep 1001 &); while :; do sleep 0.01; done"
    served = node.start(pod, ["sh", "-c", script])
    looks = node.start(pod, ["sleep", "1000"], name="looks")
    expected = {"sleep infinity", "sleep 1000", "sleep 1001"}
    until(
        lambda: set(exec_(node, looks, "ps -eo args").splitlines()),
        expected.issubset,
        what="all to run",
        seconds=PATIENCE,
        interval=0.01,
    )
    pid = exec_(node, looks, "pgrep -o -f '[t]rap'").strip()
    assert exec_(node, looks, f"cd /proc/{pid}/cwd; cat etc/hostname") == "processes\n"
    exec_(node, looks, f"kill {pid}")
    assert (node.ended(served).exit_code, node.output(served)) == (3, "told\n")
    assert "sleep 1001" not in exec_(node, looks, "ps -eo args")  # what it left behind is gone, too
    assert node.status(looks).state == node.api.CONTAINER_RUNNING
    node.runtime.StopPodSandbox(node.api.StopPodSandboxRequest(pod_sandbox_id=pod))
    assert node.ended(looks).exit_code == 137


def test_a_setting_of_ipc_is_the_pods_own(node: Node) -> None:
    linux = {"sysctls": {"kernel.shm_rmid_forced": "1"}, "security_context": {"namespace_options": {"pid": 1}}}
    command = ["cat", "/proc/sys/kernel/shm_rmid_forced"]
    assert node.run(node.pod("set", linux=linux), command) == "1\n"
    assert node.run(node.pod("unset"), command) == "0\n"


def test_a_read_only_root(node: Node) -> None:
    security = {"readonly_rootfs": True}
    said = node.run(
        node.pod("closed"), ["sh", "-c", "touch /x; touch /dev/shm/x"], linux={"security_context": security}
    )
    assert said == "touch: cannot touch '/x': Read-only file system\n"


def test_a_volume_cannot_stand_in_for_the_last_step(node: Node) -> None:
    volume = node.folder / "kubelet" / "pods" / "uid-hostile" / "volume"
    volume.mkdir(parents=True)
    mounts = [{"container_path": "/proc/self", "host_path": str(volume)}]
    with pytest.raises(grpc.RpcError) as caught:
        partial(node.create, node.pod("hostile"), ["true"], mounts=mounts)()
    assert caught.value.details() == (
        "container 'main' mounts a volume at /proc/self; a container's /proc is the kernel's own, so choose another "
        "mountPath"
    )
