"""The argument list that makes a container."""

from pathlib import Path

import pytest

from clusters.embedded.runtime.bubblewrap import Box, Mount, arguments, normal, system
from clusters.embedded.runtime.launch import Rights


def box(**fields: object) -> Box:
    plain = {
        "system": ("--ro-bind", "/usr", "/usr"),
        "rights": Rights(),
        "env": {},
        "mounts": (),
    }
    return Box(**{**plain, **fields})  # type: ignore[arg-type]  # the fields of one test


def pairs(words: list[str], option: str, count: int = 1) -> list[tuple[str, ...]]:
    return [tuple(words[i + 1 : i + 1 + count]) for i, word in enumerate(words) if word == option]


def test_the_whole_list_of_a_plain_container() -> None:
    assert " ".join(arguments(box(), 7)) == (
        "--die-with-parent --new-session --unshare-pid --userns2 7 "
        "--tmpfs / --ro-bind /usr /usr "
        "--dir /home --dir /media --dir /mnt --dir /opt --dir /root --dir /run --dir /srv --dir /var --dir /var/cache "
        "--dir /var/lib --dir /var/log --perms 1777 --dir /tmp --perms 1777 --dir /var/tmp --symlink /run /var/run "
        "--ro-bind /sys /sys --dev /dev --proc /proc --ro-bind /proc/sys /proc/sys --mqueue /dev/mqueue"
    )


def test_a_root_of_its_own_replaces_the_empty_one() -> None:
    assert " ".join(arguments(box(root="/layer"), 7)) == (
        "--die-with-parent --new-session --unshare-pid --userns2 7 --bind /layer / --ro-bind /usr /usr "
        "--ro-bind /sys /sys --dev /dev --proc /proc --ro-bind /proc/sys /proc/sys --mqueue /dev/mqueue"
    )


def test_a_mapped_user_has_a_user_namespace_of_its_own() -> None:
    words = arguments(box(rights=Rights(1000, 2000), mapped=True), 7)
    assert words[2:9] == ["--unshare-pid", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "2000"]
    assert "--userns2" not in words
    assert "--mqueue" not in words  # the IPC namespace is not in its power


def test_the_pid_namespace_of_another_can_be_joined() -> None:
    words = arguments(box(), 7, 8)
    assert words[2:6] == ["--pidns", "8", "--userns2", "7"]
    assert "--unshare-pid" not in words


def test_outer_mounts_come_before_inner_ones_and_keep_their_order() -> None:
    mounts = (
        Mount("/h/deep", "/data/a/b", read_only=True),
        Mount("/h/data", "/data", read_only=False),
        Mount("/h/file", "/etc", read_only=True),
        Mount("/h/term", "/dev/termination-log", read_only=False),
    )
    words = arguments(box(mounts=mounts), 7)
    order = [words.index(target) for target in ("/data", "/dev/termination-log", "/data/a/b")]
    assert order == sorted(order)
    assert pairs(words, "--bind", 2) == [("/h/data", "/data"), ("/h/term", "/dev/termination-log")]
    assert words.index("--dev") < words.index("/dev/termination-log")
    assert ("/h/deep", "/data/a/b") in pairs(words, "--ro-bind", 2)


def test_proc_sys_is_read_only_however_the_pod_asks() -> None:
    for asked in ((), ("/proc/sys", "/proc/bus")):
        words = arguments(box(read_only=asked), 7)
        assert pairs(words, "--ro-bind", 2).count(("/proc/sys", "/proc/sys")) == 1
        assert ("/proc/sys", "/proc/sys") not in pairs(words, "--ro-bind-try", 2)
        assert words.index("--proc") < words.index("/proc/sys")


def test_masked_paths_are_covered() -> None:
    words = arguments(box(masked_files=("/proc/keys",), masked_folders=("/sys/firmware",)), 7)
    assert ("/dev/null", "/proc/keys") in pairs(words, "--ro-bind", 2)
    assert ("/sys/firmware",) in pairs(words, "--tmpfs")
    assert ("/sys/firmware",) in pairs(words, "--remount-ro")


def test_devices_of_a_device_plugin_are_there() -> None:
    words = arguments(box(devices=(("/dev/nvidia0", "/dev/nvidia0"),)), 7)
    assert pairs(words, "--dev-bind", 2) == [("/dev/nvidia0", "/dev/nvidia0")]


def test_the_folders_above_a_mount_or_device_are_open_to_every_user() -> None:
    words = arguments(box(devices=(("/dev/x", "/dev/caps/x"),), mounts=(Mount("/v", "/data/deep/v", False),)), 7)
    before = words[words.index("--dev-bind") - 4 :]
    assert before[:6] == ["--dir", "/dev", "--dir", "/dev/caps", "--dev-bind", "/dev/x"]
    before = words[words.index("--bind") - 4 :]
    assert before[:6] == ["--dir", "/data", "--dir", "/data/deep", "--bind", "/v"]


def test_the_working_directory_is_made_when_missing() -> None:
    words = arguments(box(cwd="/app"), 7)
    assert words[-2:] == ["--dir", "/app"]


def test_a_read_only_root_is_closed_last() -> None:
    words = arguments(box(read_only_root=True, cwd="/app"), 7)
    assert words[-4:] == ["--dir", "/app", "--remount-ro", "/"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/var/run/secrets/kubernetes.io/serviceaccount", "/run/secrets/kubernetes.io/serviceaccount"),
        ("/var/run", "/run"),
        ("/var/running", "/var/running"),
        ("/data/../etc//x/.", "/etc/x"),
        ("/../..", "/"),
        ("", "/"),
        ("relative", "/relative"),
    ],
)
def test_paths_of_a_container_are_made_plain(given: str, expected: str) -> None:
    assert normal(given) == expected


def test_a_merged_system_keeps_its_links(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "etc" / "ssl" / "certs").mkdir(parents=True)
    (tmp_path / "etc" / "shadow").touch()
    words = "--ro-bind {0}/usr /usr --symlink usr/bin /bin --dir /etc --ro-bind {0}/etc/ssl/certs /etc/ssl/certs"
    assert " ".join(system(tmp_path)) == words.format(tmp_path)


def test_an_unmerged_system_has_its_folders(tmp_path: Path) -> None:
    for name in ("usr", "bin", "lib", "lib64"):
        (tmp_path / name).mkdir()
    assert pairs(list(system(tmp_path)), "--ro-bind", 2) == [
        (f"{tmp_path}/{name}", f"/{name}") for name in ("usr", "bin", "lib", "lib64")
    ]
