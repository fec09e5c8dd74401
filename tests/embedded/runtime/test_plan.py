"""What a container runs, from what the kubelet asks."""

import os
import signal
from pathlib import Path

import pytest

from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.bubblewrap import Mount
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.images import Bind, Image
from clusters.embedded.runtime.launch import Rights
from clusters.embedded.runtime.plan import (
    Plan,
    Surroundings,
    environment,
    image_volume,
    plan,
    program,
    refuse_ways_out,
    stop_signal,
    volume,
)
from clusters.embedded.runtime.security import mapped

IMAGE = Image("vllm:1", "sha256:0", ("serve",), ("--help",), {"A": "image", "B": "image"}, (Bind("/h/v", "/opt/v"),), 1)


def around(tmp_path: Path) -> Surroundings:
    return Surroundings(
        hostname="web",
        folder=tmp_path,
        files={"/etc/hostname": "web\n"},
        shm=Path("/p/shm"),
        roots=(tmp_path,),
        host_paths=(),
        image_volumes={},
        users="real",
    )


def planned(api: Api, tmp_path: Path, **fields: Message) -> Plan:
    return plan(api.ContainerConfig(**{"metadata": {"name": "c"}, **fields}), IMAGE, around(tmp_path))


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], [], ("serve", "--help")),
        ([], ["--port", "1"], ("serve", "--port", "1")),
        (["sh"], [], ("sh",)),
        (["sh"], ["-c", "x"], ("sh", "-c", "x")),
    ],
)
def test_commands_replace_what_the_image_says(command: list[str], args: list[str], expected: tuple[str, ...]) -> None:
    assert program("c", command, args, IMAGE) == expected


def test_nothing_to_run_is_said() -> None:
    with pytest.raises(Refused) as caught:
        program("c", [], [], Image("empty:1", "sha256:0", (), (), {}, (), 1))
    assert str(caught.value) == (
        "container 'c' has nothing to run: the image empty:1 has no entry point; give the container a command"
    )


def test_the_pods_variables_win() -> None:
    found = environment({"A": "image", "HOME": "/h"}, {"A": "pod"}, "web", 1000)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert found == {"PATH": path, "HOSTNAME": "web", "HOME": "/h", "A": "pod"}


def test_a_plan_has_the_files_and_the_image(cri: Api, tmp_path: Path) -> None:
    security = {"run_as_user": {"value": 7}, "run_as_group": {"value": 8}, "readonly_rootfs": True}
    made = planned(cri, tmp_path, linux={"security_context": security}, working_dir="/app/../srv")
    assert made.files["/etc/passwd"].splitlines()[-1] == "user7:x:7:8::/:/bin/sh"
    assert made.files["/etc/group"].splitlines()[-1] == "group8:x:8:"
    assert made.files["/etc/hostname"] == "web\n"
    assert sorted(made.files) == ["/etc/group", "/etc/hostname", "/etc/nsswitch.conf", "/etc/passwd"]
    assert (made.box.rights.uid, made.box.rights.gid, made.box.read_only_root, made.box.cwd) == (7, 8, True, "/srv")
    assert made.box.mounts == (
        Mount("/p/shm", "/dev/shm", read_only=False),
        Mount("/h/v", "/opt/v", read_only=True),
    )


def test_a_pods_volume_replaces_a_file_of_ours(cri: Api, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    mounts = [{"container_path": "/etc/passwd", "host_path": str(tmp_path / "mine")}]
    made = planned(cri, tmp_path, mounts=mounts)
    assert [each for each in made.box.mounts if each.target == "/etc/passwd"] == [
        Mount(f"{tmp_path}/mine", "/etc/passwd", read_only=False)
    ]


@pytest.mark.parametrize(
    ("security", "sentence"),
    [
        (
            {"seccomp": {"profile_type": 2, "localhost_ref": "audit.json"}},
            "container 'c' asks for its node's seccomp profile 'audit.json' (Localhost); the embedded cluster's nodes "
            "have none, so use RuntimeDefault or --cluster kind",
        ),
    ],
)
def test_what_is_not_offered_is_refused_by_name(cri: Api, tmp_path: Path, security: Message, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        planned(cri, tmp_path, linux={"security_context": security})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("target", "source", "sentence"),
    [
        ("/", "{}", "container 'c' mounts a volume at /; mount it at a folder below"),
        ("/x", "{}/none", "container 'c' mounts the host folder {}/none, which does not exist"),
        (
            "/x",
            "/etc",
            "container 'c' mounts the host folder /etc (hostPath), which this cluster does not allow; add it to "
            "hostPaths in cluster.yaml (now: empty) and start the cluster again",
        ),
        (
            "/proc/driver",
            "{}",
            "container 'c' mounts a volume at /proc/driver; a container's /proc is the kernel's own, so choose another "
            "mountPath",
        ),
        (
            "/usr/no/such",
            "{}",
            "container 'c' mounts a volume at /usr/no/such; /usr is the machine's own, read-only, and has no such "
            "folder, so choose another mountPath",
        ),
    ],
)
def test_mounts_that_cannot_be(cri: Api, tmp_path: Path, target: str, source: str, sentence: str) -> None:
    mount = cri.Mount(container_path=target, host_path=source.format(tmp_path))
    with pytest.raises(Refused) as caught:
        volume("c", mount, IMAGE, (tmp_path,), ())
    assert str(caught.value) == sentence.format(tmp_path)


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        (
            {"image": {"image": "vllm:1"}},
            "container 'c' mounts the image vllm:1 at /x, which has no root folder of its own; add one with a root, "
            "see `gpulab up --images`",
        ),
        (
            {"image": {"image": "data:1"}, "image_sub_path": "no/such"},
            "container 'c' mounts no/such of the image data:1 at /x, which is not in it",
        ),
    ],
)
def test_image_volumes_that_cannot_be(cri: Api, tmp_path: Path, mount: Message, sentence: str) -> None:
    known = {"vllm:1": IMAGE, "data:1": Image("data:1", "sha256:2", root=str(tmp_path))}
    with pytest.raises(Refused) as caught:
        image_volume("c", cri.Mount(container_path="/x", **mount), IMAGE, known)
    assert str(caught.value) == sentence


def test_an_image_volume_is_a_folder_of_the_images_root(cri: Api, tmp_path: Path) -> None:
    (tmp_path / "models" / "v1").mkdir(parents=True)
    (tmp_path / "latest").symlink_to("/models/v1")
    known = {"data:1": Image("data:1", "sha256:2", root=str(tmp_path))}
    mount = cri.Mount(container_path="/x", image={"image": "data:1"}, image_sub_path="latest")

    assert image_volume("c", mount, IMAGE, known) == Mount(f"{tmp_path}/models/v1", "/x", read_only=True)


def test_a_link_out_of_an_allowed_folder_is_not_followed(cri: Api, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("/etc")
    mount = cri.Mount(container_path="/x", host_path=str(tmp_path / "data/link"))
    with pytest.raises(Refused, match=r"does not allow; add it to hostPaths"):
        volume("c", mount, IMAGE, (), (tmp_path / "data",))


def test_a_mount_is_not_made_through_a_link_out_of_a_volume(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "real").mkdir(parents=True)
    (data / "inside").symlink_to("real")
    (data / "outside").symlink_to("../../etc")
    (data / "absolute").symlink_to("/etc")

    def mounts(target: str) -> list[Mount]:
        return [Mount("/h/x", target, read_only=False), Mount(str(data), "/data", read_only=False)]

    for target in ("/data/real", "/data/inside/deep", "/data/new/deep", "/database"):
        refuse_ways_out("c", mounts(target))
    for target in ("/data/outside", "/data/absolute/cron.d"):
        with pytest.raises(Refused) as caught:
            refuse_ways_out("c", mounts(target))
        assert str(caught.value) == (
            f"container 'c' mounts a volume at {target}; the volume at /data has a link there that leads out of it, so "
            "remove the link or choose another mountPath"
        )


def test_a_mapped_user_cannot_join_the_processes_of_others() -> None:
    assert not mapped("c", Rights(1000), "real", shares=True)
    assert not mapped("c", Rights(), "mapped", shares=True)
    assert mapped("c", Rights(1000), "mapped", shares=False)
    with pytest.raises(Refused) as caught:
        mapped("c", Rights(1000, 2000), "mapped", shares=True)
    assert str(caught.value) == (
        "container 'c' runs as user 1000 and group 2000 among the processes of others (shareProcessNamespace or "
        "kubectl debug --target); an ordinary user's cluster needs a range of subordinate ids for that (`gpulab "
        "doctor` tells), so run it as user 0"
    )


def test_mounts_for_the_node_are_refused(cri: Api, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        volume("c", cri.Mount(container_path="/x", host_path=str(tmp_path), propagation=2), IMAGE, (tmp_path,), ())
    assert str(caught.value) == (
        "container 'c' mounts /x with mountPropagation Bidirectional; no container makes mounts for its node here, so "
        "leave it out or use --cluster kind"
    )


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGNAL_RUNTIME_DEFAULT", signal.SIGTERM),
        ("SIGNAL_SIGQUIT", signal.SIGQUIT),
        ("SIGNAL_SIGCLD", signal.SIGCHLD),
        ("SIGNAL_SIGRTMIN", signal.SIGRTMIN),
        ("SIGNAL_SIGRTMINPLUS3", signal.SIGRTMIN + 3),
        ("SIGNAL_SIGRTMAXMINUS2", signal.SIGRTMAX - 2),
    ],
)
def test_stop_signals_have_the_cris_names(cri: Api, name: str, number: int) -> None:
    assert stop_signal(getattr(cri, name), cri.ContainerConfig()) == number


def test_every_stop_signal_of_the_cri_is_known(cri: Api) -> None:
    values = cri.ContainerConfig.DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values
    assert all(0 < stop_signal(value.number, cri.ContainerConfig()) <= signal.SIGRTMAX for value in values)


def test_values_of_any_bytes_pass_and_a_nul_cannot_add_arguments(cri: Api, tmp_path: Path) -> None:
    made = planned(cri, tmp_path, envs=[{"key": "A", "value": b"caf\xc3\xa9 \xff"}])
    assert os.fsencode(made.box.env["A"]) == b"caf\xc3\xa9 \xff"
    for fields in ({"envs": [{"key": "A", "value": b"x\0--bind\0/\0/host"}]}, {"command": ["sh\0-c"]}):
        with pytest.raises(Refused) as caught:
            planned(cri, tmp_path, **fields)
        assert str(caught.value) == (
            "container 'c' has a NUL character in its command, environment, mounts or working directory; remove it"
        )
