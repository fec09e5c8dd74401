"""Containers whose image has a root folder of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.embedded.runtime import layer
from clusters.embedded.runtime.images import Bind, Entry, Image

Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest
MACHINE = ("bin", "sbin", "lib", "lib64", "usr")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Like the root of an image: programs of this machine's, and files that are nowhere else."""
    root = tmp_path / "tree"
    for name in ("etc", "srv/site", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:0:0::/srv:/bin/sh\n")
    (root / "srv" / "site" / "index").write_text("hello\n")
    (root / "srv" / "current").symlink_to("/srv/site")
    (root / "var" / "www").symlink_to("../srv")
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/site/index", "/srv/site/index"),
        ("/srv/current/index", "/srv/site/index"),
        ("/var/www/current/new/", "/srv/site/new"),
        ("/var/www/../etc", "/etc"),
        ("/../no/such", "/no/such"),
        ("/loop/x", "/loop/x"),
    ],
)
def test_links_in_a_root_are_followed_inside_it(root: Path, path: str, expected: str) -> None:
    (root / "loop").symlink_to("loop")

    assert layer.inside(root, path) == expected


def test_without_a_layer_the_entries_are_shown_read_only(root: Path) -> None:
    (root / "var" / "run").mkdir()
    (root / "bin").symlink_to("usr/bin")

    assert layer.entries(root) == (
        *("--symlink", "usr/bin", "/bin"),
        *("--dir", "/etc", "--ro-bind", f"{root}/etc/passwd", "/etc/passwd"),
        *("--ro-bind", f"{root}/srv", "/srv"),
        *("--dir", "/var", "--symlink", "../srv", "/var/www"),
    )


@pytest.fixture
def rooted(node: Node, root: Path) -> Iterator[Image]:
    """An image with that root and the machine's programs, known to the node for the time of a test."""
    for name in MACHINE:
        if (Path("/") / name).is_symlink():
            (root / name).symlink_to((Path("/") / name).readlink())
    image = Image("rooted:1", f"sha256:{1:064}", root=str(root), binds=(Bind("/usr", "/usr"),), working_dir="/srv/site")
    listed = node.folder / "images.json"
    before = listed.read_bytes()
    know(listed, before, image)
    yield image
    listed.write_bytes(before)


def know(listed: Path, before: bytes, image: Image) -> None:
    entries = [*msgspec.json.decode(before, type=list[Entry]), Entry((image.reference,), image)]
    listed.write_bytes(msgspec.json.encode(entries))


def run(node: Node, pod: str, script: str, **fields: object) -> str:
    return str(node.run(pod, ["sh", "-c", script], image={"image": "rooted:1"}, **fields))


@pytest.mark.cluster
def test_what_a_container_writes_stays_in_its_own_layer(node: Node, rooted: Image) -> None:
    pod = node.pod("layers")

    first = run(node, pod, "cat index; pwd; echo mine > index; rm /etc/passwd; touch /new; cat index", name="first")
    second = run(node, pod, "cat index; ls /new /etc/passwd 2>&1", name="second")

    assert first == "hello\n/srv/site\nmine\n"
    assert second == "hello\nls: cannot access '/new': No such file or directory\n/etc/passwd\n"
    assert (Path(rooted.root) / "srv" / "site" / "index").read_text() == "hello\n"
    assert not (Path(rooted.root) / "new").exists()


@pytest.mark.cluster
def test_volumes_are_found_through_the_links_of_the_root(node: Node, rooted: Image) -> None:
    pod, source = node.pod("links"), node.folder / "allowed" / "volume"
    source.mkdir()
    (source / "token").write_text("secret\n")
    places = ["/var/run/secrets", "/srv/current/volume"]
    mounts = [{"container_path": place, "host_path": str(source)} for place in places]

    script = "cat /run/secrets/token /var/run/secrets/token /srv/site/volume/token; stat -c %a /run/secrets/.."

    assert run(node, pod, script, mounts=mounts) == "secret\nsecret\nsecret\n755\n"


@pytest.mark.cluster
def test_a_read_only_root_stays_as_it_is(node: Node, rooted: Image) -> None:
    security = {"security_context": {"readonly_rootfs": True}}

    said = run(node, node.pod("read-only"), "echo x > index; cat index", linux=security)

    assert said.splitlines()[1:] == ["hello"]
    assert "Read-only file system" in said


@pytest.mark.cluster
def test_a_layer_goes_with_its_container(node: Node, rooted: Image) -> None:
    pod = node.pod("gone")
    container = node.start(pod, ["sleep", "1000"], image={"image": "rooted:1"})
    folder = node.folder / "state" / "containers" / container
    there = folder.is_dir()

    node.runtime.RemoveContainer(node.api.RemoveContainerRequest(container_id=container))

    assert there
    assert not folder.exists()


@pytest.mark.cluster
def test_where_the_kernel_refuses_a_layer_the_root_is_read_only(node: Node, rooted: Image, tmp_path: Path) -> None:
    # A colon separates the folders of an overlay mount, so the kernel does not find this one.
    refused = Path(shutil.move(rooted.root, tmp_path / "a:b"))
    know(node.folder / "images.json", b"[]", msgspec.structs.replace(rooted, root=str(refused)))

    said = run(node, node.pod("refused"), "cat index; echo x > index; touch /new /tmp/new && stat -c %a /tmp")

    # What it wrote to its two streams comes in any order.
    assert {"hello", "1777"} <= set(said.splitlines())
    assert "Read-only file system" in said


@pytest.mark.cluster
def test_a_user_by_name_is_one_of_the_image(node: Node, rooted: Image) -> None:
    (Path(rooted.root) / "etc" / "passwd").write_text("web:x:0:0::/srv:/bin/sh\n")
    security = {"security_context": {"run_as_username": "web"}}

    assert run(node, node.pod("named"), "id -un; echo $HOME", linux=security) == "web\n/srv\n"
    shown = node.images.ImageStatus(node.api.ImageStatusRequest(image={"image": "rooted:1"})).image
    assert (shown.uid.value, shown.username) == (0, "")
